"""The vocabulary: what a method is made of and what crosses a compiled round.

Letters used in every docstring:

    N  all clients            E  local epochs   L  layers
    K  clients in the cohort  S  local steps       T  rounds
    B  examples in a batch    C  classes      H, W, Ch  image height, width, channels
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


State = Any
"""Whatever a method carries from round to round: one pytree."""


class Batch(NamedTuple):
    """Examples of one client.

    Attributes:
      image: `[..., B, H, W, Ch]` float32, normalised.
      label: `[..., B]` int32.
      weight: `[..., B]` float32, 1 for an example and 0 for padding.
    """

    image: jax.Array
    label: jax.Array
    weight: jax.Array


class Examples(NamedTuple):
    """All training examples, which every device has once.

    Attributes:
      image: `[n, H, W, Ch]` uint8, or float32 if normalised already.
      label: `[n]` int32.
    """

    image: jax.Array
    label: jax.Array


class Cohort(NamedTuple):
    """The clients of one round and the batches they will use.

    A batch is a list of places among the examples; its images are gathered where and
    when a client needs them, so that a cohort of any size takes little memory.

    Attributes:
      client_id: `[K]` int32, who they are among the N clients.
      index: `[K, S, B]` int32, which examples.
      weight: `[K, S, B]` float32, 1 for an example and 0 for padding.
      num_examples: `[K]` int32, examples each client owns; 0 marks a padded client.
      examples: of all clients.
      fault: `[K]` float32, what is wrong with a client's messages: they arrive so many
        times as large; 1 for those as they should be. None for all of them.
    """

    client_id: jax.Array
    index: jax.Array
    weight: jax.Array
    num_examples: jax.Array
    examples: Examples
    fault: jax.Array | None = None


class Link(NamedTuple):
    """What one client sent over one link in one round.

    The bits are `entries * bits + more + side`; they may pass 2**31, so they are summed
    on the host in 64 bits.

    Attributes:
      entries: `[K]` int32, numbers that crossed.
      bits: `[K]` int32, bits of each number.
      more: `[K]` int32, bits beyond that, of numbers that are wider or coded.
      side: `[K]` int32, bits of side information: what it takes to read the numbers
        (norms and headers of messages, masks, widths, layer flags), and the running
        statistics of batch norms.
    """

    entries: jax.Array
    bits: jax.Array
    more: jax.Array
    side: jax.Array

    @classmethod
    def float32(cls, entries: jax.Array, side: jax.Array | int = 0) -> "Link":
        """So many values, `[K]` int32, as they are, with `[K]` bits beside them."""
        none = jnp.zeros_like(entries)
        return cls(entries, jnp.full_like(entries, 32), none, none + side)


class Links(NamedTuple):
    """What each client of a cohort sent and received in one round, link by link.

    Attributes:
      model_down: the model, from the server.
      activations_up: at the cut, to the server.
      labels_up: of their examples.
      gradients_down: at the cut, from the server.
      updates_up: of the client's model, to the server.
    """

    model_down: Link
    activations_up: Link
    labels_up: Link
    gradients_down: Link
    updates_up: Link

    @classmethod
    def uncut(cls, model_down: Link, updates_up: Link) -> "Links":
        """Those of a method whose network is not cut."""
        nothing = Link.float32(jnp.zeros_like(model_down.entries))
        return cls(model_down, nothing, nothing, nothing, updates_up)


class Work(NamedTuple):
    """Multiplications with additions in the forward passes of one round.

    A backward pass takes about twice as many. What is pruned does not count.

    Attributes:
      client: `[K]` float32, by the client.
      server: `[K]` float32, by the server for it.
    """

    client: jax.Array
    server: jax.Array


class RoundMetrics(NamedTuple):
    """What is reported of a round, one value per client of the cohort.

    Attributes:
      client_id: `[K]` int32.
      loss: `[K]` float32, mean loss of each client's own batches before the update.
      kept_ratio: `[K]` float32, share of the client model's entries not pruned.
      rejected: `[K]` bool, what it sent was not finite or too large, and not used.
      work: what was computed.
      links: what was sent.
    """

    client_id: jax.Array
    loss: jax.Array
    kept_ratio: jax.Array
    rejected: jax.Array
    work: Work
    links: Links


Draw = Callable[..., Cohort]
"""`draw(key, dataset, partition, *, round, period, batch_size)` -> the cohort of a
round: the clients drawn anew when `period` changes, their batches of B in each round.
"""


class Algorithm(NamedTuple):
    """A method as pure functions.

    Attributes:
      init: `init(key) -> State`.
      draw: how it draws its cohorts, of as many clients and steps as it trains on.
      round: `round(state, cohort, key) -> (State, RoundMetrics)`.
      predict: `predict(state, images) -> logits`, images `[B, H, W, Ch]`, logits
        `[B, C]`, of the model that the method would deliver.
      period: `period(state) -> int32`, changes exactly when a new cohort of clients
        is to be drawn.
      views: further models worth evaluating, `name -> predict`.
      models: fields of the state that hold models, which another run may start from.
      messages: `messages(state, cohort, key)`, what the clients of a cohort would send
        in this round, before it is coded; None if the method codes nothing.
    """

    init: Callable[[jax.Array], State]
    draw: Draw
    round: Callable[[State, Cohort, jax.Array], tuple[State, RoundMetrics]]
    predict: Callable[[State, jax.Array], jax.Array]
    period: Callable[[State], jax.Array]
    views: Mapping[str, Callable[[State, jax.Array], jax.Array]] = {}
    models: tuple[str, ...] = ()
    messages: Callable[[State, Cohort, jax.Array], Any] | None = None
