"""Named configurations of FedLP-Q: its special cases, and published settings."""

from typing import Any

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedlpq.config import FedLPQConfig
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.method_spec import Preset


WHOLE: dict[str, Any] = dict(bits=FLOAT_BITS, keep_probability=1.0)
"""Every layer is sent, as float32."""

PRESETS = {
    "fedlpq": Preset(
        FedLPQRun(), "layer-wise pruned, quantised and coded federated learning"
    ),
    "fedlp": Preset(
        FedLPQRun(method=FedLPQConfig(bits=FLOAT_BITS)), "the same without quantisation"
    ),
    "fedavg": Preset(
        FedLPQRun(method=FedLPQConfig(**WHOLE)), "the same with every layer sent"
    ),
    # SGD without momentum, as published.
    "scaffold": Preset(
        FedLPQRun(
            method=FedLPQConfig(
                **WHOLE,
                control_variates=True,
                optimizer="sgd",
                momentum=0.0,
                learning_rate=0.01,
            )
        ),
        "FedAvg with control variates",
    ),
    # Entropy 2023, 25, 1205: ten of 100 clients, five epochs, Adam.
    "cifar10-fedlpq": Preset(
        FedLPQRun(
            data=DataConfig(name="cifar10", num_clients=100),
            model=CNNConfig(init="torch"),
            method=FedLPQConfig(local_epochs=5),
            rounds=200,
        ),
        "FedLP-Q on CIFAR-10 as published",
    ),
    # arXiv 2102.02079, its README's table of CIFAR-10, ten parties.
    "niid-bench-dir05": Preset(
        FedLPQRun(
            data=DataConfig(
                name="cifar10", partition="dirichlet", alpha=0.5, self_balancing=True
            ),
            model=CNNConfig(name="simple-cnn", init="torch"),
            method=FedLPQConfig(
                **WHOLE,
                local_epochs=10,
                optimizer="sgd",
                learning_rate=0.01,
                momentum=0.9,
                weight_decay=1e-5,
                crop_pixels=4,
                flip=True,
                client_weight="examples",
            ),
            rounds=50,
            batch_size=64,
            eval_every=1,
        ),
        "FedAvg on CIFAR-10 as in NIID-Bench",
    ),
}
