"""METHOD A: lightweight federated split learning (arXiv 2412.06414).

Clients hold the layers before the cut, pruned by importance; a server holds the layers
after it. One round is one mini-batch step of every client: activations go up with
dropout, gradients come back, the clients' own gradients are quantised, and every I
rounds the client models are averaged. The body of the paper was not available: steps
that are not specified are reconstructed, with the alternatives as options of
`FedSLConfig`.

With everything off (ratio 0, 32 bits, rate 0) the round is SplitFed: version 1 with
`server_update="merged"`, v2 with "sequential"; with `client_update="relay"` it
is split learning with one client model passed from each client to the next, and with
"local" parallel split learning, whose client models are never averaged.
"""

import sys

from fedjax_sl.callable_module import CallableModule
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.method import fedsl
from fedjax_sl.fedsl.state import FedSLState


__all__ = ["FedSLConfig", "FedSLState", "fedsl"]

sys.modules[__name__].__class__ = CallableModule
