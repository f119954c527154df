"""METHOD B: FedLP-Q, layer-wise pruned and quantised federated learning.

(Entropy 2023, 25, 1205.) In a round K clients train for E local epochs and send their
updates layer by layer: a layer is skipped at random (homogeneous) or because the
client's smaller network lacks it (heterogeneous), and the others are quantised and
Elias-coded. The server averages each layer over the clients that sent it. Published
code covers only FedLP, without quantisation; steps that neither specifies are
reconstructed.

Special cases have names: FedLP sends float32, and FedAvg also sends every layer.
"""

import sys

from fedjax_sl.callable_module import CallableModule
from fedjax_sl.fedlpq.config import FedLPQConfig
from fedjax_sl.fedlpq.method import fedavg, fedlp, fedlpq
from fedjax_sl.fedlpq.state import FedLPQState


__all__ = ["FedLPQConfig", "FedLPQState", "fedavg", "fedlp", "fedlpq"]

sys.modules[__name__].__class__ = CallableModule
