"""FedLP-Q with other compressors: final accuracy against the bits that go up.

    python -m experiments.fedlpq_front --seeds 3

One network, data and recipe; what differs is how a client's update is sent. Runs are
resumed where they stopped.
"""

import argparse
from typing import Any

from experiments.cells import Cell
from experiments.finals import keep_table
from experiments.script import run_main
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.presets import WHOLE
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun


ROUNDS = 40
"""T; a client's part of a round is an epoch over its own images."""

TOP_K = CompressorConfig(
    kind="top_k", keep=0.01, values="qsgd", bits=8, feedback="error"
)

SENT: dict[str, dict[str, Any]] = {
    "FedAvg, float32": WHOLE,
    "FedLP-Q, p 0.5, 10 bits, Elias omega": {},
    "QSGD 4 bits, range code": WHOLE
    | {"updates": CompressorConfig(kind="qsgd", bits=4, coder="range")},
    "EDEN 1 bit": WHOLE | {"updates": CompressorConfig(kind="eden", bits=1)},
    "top-k 1 %, 8 bits, error feedback": WHOLE | {"updates": TOP_K},
}
"""What a client sends; layers and values as in the method, if not given."""

HEAD = f"""# FedLP-Q with other compressors

`simple-cnn` on CIFAR-10, ten clients of equal size, five of them in a round, {ROUNDS}
rounds of one local epoch (SGD with momentum 0.9, batches of 32, rate 0.03 with warm-up
and a cosine, flips). The rate was tried once, with FedAvg and all ten clients in a
round, on 5,000 training images held out, and never changed. Final accuracy on the test
split, mean and 95 % t-interval over seeds. A row, and what it loses against FedAvg,
paired over seeds: `python -m experiments.fedlpq_front --seeds N`. Simulated seconds of
all of these rows are with 1.52 times the network's MACs (convolutions counted as if
they were padded), so that rounds of few bits gain more than they say.
"""


def config(seed: int, sent: dict[str, Any]) -> FedLPQRun:
    """Returns the run with a compressor."""
    return FedLPQRun(
        data=DataConfig(name="cifar10"),
        model=CNNConfig(name="simple-cnn", init="torch"),
        method=FedLPQConfig(
            **sent,
            cohort_size=5,
            optimizer="sgd",
            learning_rate=0.03,
            momentum=0.9,
            weight_decay=1e-5,
            flip=True,
            warmup_rounds=2,
            cosine_rounds=ROUNDS,
        ),
        rounds=ROUNDS,
        batch_size=32,
        eval_every=5,
        seed=seed,
    )


def cells(seeds: int) -> list[Cell]:
    """Returns all runs, those of a seed one after another."""
    return [
        Cell(f"sent-{index}", {"sent": name}, config(seed, sent))
        for seed in range(seeds)
        for index, (name, sent) in enumerate(SENT.items())
    ]


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    found = cells(parser.parse_args().seeds)
    against = dict.fromkeys(list(SENT)[1:], "FedAvg, float32")
    keep_table("fedlpq_front", found, by="sent", head=HEAD, published={}, pairs=against)


if __name__ == "__main__":
    run_main(main)
