"""METHOD B: FedLP-Q, layer-wise pruned and quantised federated learning.

(Entropy 2023, 25, 1205.) In a round K clients train for E local epochs and send what
they learned layer by layer: a layer is left out at random (homogeneous) or because the
client's smaller network lacks it (heterogeneous), and what is sent is quantised and
Elias-coded. The server averages each layer over those who sent it. Published code is
only that of FedLP, without quantisation; where neither says, steps are reconstructed.

Its limits have names: FedLP sends float32, and FedAvg moreover every layer.
"""

import sys

from fedjax_sl.callable_module import CallableModule
from fedjax_sl.fedlpq.config import FedLPQConfig
from fedjax_sl.fedlpq.method import fedavg, fedlp, fedlpq
from fedjax_sl.fedlpq.state import FedLPQState


__all__ = ["FedLPQConfig", "FedLPQState", "fedavg", "fedlp", "fedlpq"]

sys.modules[__name__].__class__ = CallableModule
