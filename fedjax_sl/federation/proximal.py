"""FedProx: a client's steps are drawn back to the model that it received."""

from typing import Any

import jax


def proximal_gradient(grad: Any, params: Any, received: Any, mu: Any) -> Any:
    """Adds the gradient of a proximal term to that of the loss.

    `g + mu (w - w_0)`, of `F_k(w) + mu / 2 |w - w_0|^2` (Li et al., "Federated
    optimization in heterogeneous networks", MLSys 2020).

    Args:
      grad: g, leaves `[...]`.
      params: w, where it was taken.
      received: w_0, the model that the client began from.
      mu: strength, >= 0; may be traced.

    Returns:
      The same structure.
    """
    return jax.tree.map(lambda g, w, w0: g + mu * (w - w0), grad, params, received)
