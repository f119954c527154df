"""The vocabulary: the parts of a method, and the values that cross a compiled round.

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
"""State that a method carries from round to round: a NamedTuple, whose field `round`
counts the rounds done."""


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
    """Training examples, stored once on every device: all, or those of some rounds.

    Attributes:
      image: `[n, H, W, Ch]` uint8, or float32 if normalised already.
      label: `[n]` int32.
      number: `[n]` int32, of each among all examples, by which draws are keyed; None if
        these are all of them.
    """

    image: jax.Array
    label: jax.Array
    number: jax.Array | None = None

    def numbers(self, index: jax.Array) -> jax.Array:
        """Numbers of the examples at these indices among all."""
        return index if self.number is None else self.number[index]


class Cohort(NamedTuple):
    """The clients of one round and their batches.

    A batch is a list of indices into the examples; its images are gathered where and
    when a client needs them, so that a cohort of any size takes little memory.

    Attributes:
      client_id: `[K]` int32, ids among the N clients.
      index: `[K, S, B]` int32, indices of the examples.
      weight: `[K, S, B]` float32, 1 for an example and 0 for padding.
      num_examples: `[K]` int32, examples each client owns; 0 marks a padded client.
      examples: of all clients.
      fault: `[K]` float32, the factor by which a client's messages are corrupted; 1 for
        valid messages. None if all are valid.
    """

    client_id: jax.Array
    index: jax.Array
    weight: jax.Array
    num_examples: jax.Array
    examples: Examples
    fault: jax.Array | None = None


class Link(NamedTuple):
    """Counts of the values sent over one link in one round.

    The bits are `entries * bits + more + side`; they may exceed 2**31, so they are
    computed on the host in 64 bits.

    Attributes:
      entries: `[K]` int32, values transmitted.
      bits: `[K]` int32, bits per value.
      more: `[K]` int32, bits beyond that, of values with more bits or coded values.
      side: `[K]` int32, bits of side information: what is needed to decode the values
        (norms and headers of messages, masks, bit allocations, layer flags), and the
        running statistics of batch norms.
    """

    entries: jax.Array
    bits: jax.Array
    more: jax.Array
    side: jax.Array

    @classmethod
    def float32(cls, entries: jax.Array, side: jax.Array | int = 0) -> "Link":
        """A link of float32 values, `[K]` int32, with `[K]` side bits."""
        # By addition `side` gets the axis of the entries, also if it is an integer.
        none = jnp.zeros_like(entries)
        return cls(entries, jnp.full_like(entries, 32), none, none + side)


class Links(NamedTuple):
    """The links of one round, per client of a cohort.

    Attributes:
      model_down: the model, from the server.
      activations_up: at the cut, to the server.
      labels_up: of their examples.
      gradients_down: at the cut, from the server.
      updates_up: of the client's model, to the server.
      features_down: at the second cut of a U-shaped network, from the server; None if
        there is no such cut.
      gradients_up: at the second cut, to the server.
    """

    model_down: Link
    activations_up: Link
    labels_up: Link
    gradients_down: Link
    updates_up: Link
    features_down: Link | None = None
    gradients_up: Link | None = None

    @classmethod
    def uncut(cls, model_down: Link, updates_up: Link) -> "Links":
        """The links of a method whose network is not split."""
        # Links that carry nothing: records of all methods have the same columns.
        nothing = Link.float32(jnp.zeros_like(model_down.entries))
        return cls(
            model_down=model_down,
            activations_up=nothing,
            labels_up=nothing,
            gradients_down=nothing,
            updates_up=updates_up,
        )


class Work(NamedTuple):
    """MACs in the forward passes of one round.

    A backward pass takes about twice as many. Pruned weights do not count.

    Attributes:
      client: `[K]` float32, by the client.
      server: `[K]` float32, by the server for this client.
      tail: `[K]` float32, those of the client behind a second cut; None if there is
        none.
    """

    # Not int32: the MACs of a round pass 2^31. They are summed in float64 on the host.
    client: jax.Array
    server: jax.Array
    tail: jax.Array | None = None


class RoundMetrics(NamedTuple):
    """Metrics of a round, one value per client of the cohort.

    Attributes:
      client_id: `[K]` int32.
      loss: `[K]` float32, mean loss of each client's own batches before the update.
      kept_ratio: `[K]` float32, share of entries not pruned: of a client's half where
        the network is cut, of the whole network otherwise.
      rejected: `[K]` bool, its messages were not finite or too large, and not used.
      work: MACs.
      links: traffic.
    """

    client_id: jax.Array
    loss: jax.Array
    kept_ratio: jax.Array
    rejected: jax.Array
    work: Work
    links: Links


Draw = Callable[..., Cohort]
"""`draw(key, dataset, partition, *, round, period, batch_size)` -> the cohort of a
round: clients are redrawn when `period` changes, their batches of B in each round.
"""


class Algorithm(NamedTuple):
    """A method as pure functions.

    Attributes:
      init: `init(key) -> State`.
      draw: draws a cohort, with the clients and steps of one round.
      round: `round(state, cohort, key) -> (State, RoundMetrics)`.
      predict: `predict(state, images) -> logits`, images `[B, H, W, Ch]`, logits
        `[B, C]`, of the global model; or `[M, B, C]`, of the models of M clients.
      period: `period(state) -> int32`, changes exactly when a new cohort of clients
        is to be drawn.
      views: further models to evaluate, `name -> predict`.
      models: fields of the state that another run may start from: models, and the
        weights with which they are averaged.
      joined: `joined(state) -> State` with the global model in the place of all models,
        for a run that starts from another's; None if they are the global model.
      weights: `weights(state) -> variables` of the global model, by collection, such as
        `params`, and module, without any axis of clients; None if there is none.
      with_weights: `with_weights(state, variables) -> State` with them in the place of
        the models of a state before the first round; None if there is none.
      on_host: fields of the state that lie in the host's memory.
      messages: `messages(state, cohort, key, slot=slot, link=link)`, what the client in
        this slot of a cohort would send, or receive, on a link in this round, before it
        is coded; None if the method codes nothing.
    """

    init: Callable[[jax.Array], State]
    draw: Draw
    round: Callable[[State, Cohort, jax.Array], tuple[State, RoundMetrics]]
    predict: Callable[[State, jax.Array], jax.Array]
    period: Callable[[State], jax.Array]
    # Never write to it: a NamedTuple's default is shared.
    views: Mapping[str, Callable[[State, jax.Array], jax.Array]] = {}
    models: tuple[str, ...] = ()
    joined: Callable[[State], State] | None = None
    weights: Callable[[State], Any] | None = None
    with_weights: Callable[[State, Any], State] | None = None
    on_host: tuple[str, ...] = ()
    messages: Callable[..., Any] | None = None
