"""SCAFFOLD: control variates, by which clients correct their steps for their drift.

Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated learning",
ICML 2020. A client's control estimates its own gradient, the server's that of all.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.federation.aggregation import broadcast


def first_controls(params: Any, num_clients: int) -> tuple[Any, Any]:
    """Returns the controls before the first round: zeros.

    Args:
      params: of the network, leaves `[...]`.
      num_clients: N.

    Returns:
      The server's c, leaves `[...]`, and the clients' c_k, leaves `[N, ...]`.
    """
    zeros = jax.tree.map(jnp.zeros_like, params)
    return zeros, broadcast(zeros, num_clients)


def corrected_gradient(grad: Any, own: Any, server: Any) -> Any:
    """Corrects a client's gradient: `g - c_k + c`.

    Args:
      grad: g, leaves `[...]`.
      own: c_k.
      server: c.

    Returns:
      The same structure.
    """
    return jax.tree.map(lambda g, c_k, c: g - c_k + c, grad, own, server)


def effective_steps(steps: jax.Array, momentum: Any) -> jax.Array:
    """Steps of plain SGD that go as far along a constant gradient.

        (K - beta (1 - beta^K) / (1 - beta)) / (1 - beta),  K without momentum

    Wang et al., "Tackling the objective inconsistency problem in heterogeneous
    federated optimization", NeurIPS 2020, for momentum that begins anew in each round.

    Args:
      steps: [] K.
      momentum: beta, in [0, 1).

    Returns:
      [] float.
    """
    rest = 1.0 - momentum
    return (steps - momentum * (1.0 - momentum**steps) / rest) / rest


def renewed_control(
    own: Any, server: Any, update: Any, sent: Any, *, distance: jax.Array
) -> Any:
    """Computes a client's next control from its update: option II of the paper.

        c_k' = c_k - c - Delta_k / (K eta),  Delta_k = y_k - x

    The server has c and Delta_k, and so knows c_k' - c_k without another message. A
    layer that is not sent keeps its control.

    Args:
      own: c_k, leaves `[...]`.
      server: c.
      update: Delta_k as the server has it.
      sent: [] bool of each leaf.
      distance: [] K eta, with the `effective_steps`; the control is kept at 0.

    Returns:
      c_k', the same structure.
    """
    # Selected before the division: a client without steps would get 0 / 0.
    moved = distance > 0
    per_step = 1.0 / jnp.where(moved, distance, 1.0)

    def renewed(c_k, c, change, flag):
        return jnp.where(flag & moved, c_k - c - change * per_step, c_k)

    trees = (own, server, update, sent)
    return jax.tree.map(renewed, *trees)


def averaged_control(server: Any, before: Any, after: Any, num_clients: int) -> Any:
    """Computes the server's next control: `c + sum_k (c_k' - c_k) / N`.

    It stays the mean of the controls of all N clients.

    Args:
      server: c, leaves `[...]`.
      before: c_k of the cohort, leaves `[K, ...]`.
      after: c_k'.
      num_clients: N.

    Returns:
      c', as c.
    """
    return jax.tree.map(
        lambda c, old, new: c + (new - old).sum(axis=0) / num_clients,
        server,
        before,
        after,
    )
