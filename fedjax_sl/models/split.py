"""Split models: a network of stages, cut between a client and a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.errors import InputError


Variables = dict[str, Any]
"""A Flax variable dict: `params`, and `batch_stats` where the norm keeps statistics."""


class SplitParams(NamedTuple):
    """The variables of the two sides, w = [w_c; w_s]."""

    client: Variables
    server: Variables


def _accepted(module: Any, **options: Any) -> dict[str, Any]:
    """Returns those of some arguments that a module's call accepts."""
    # Flax's bridge to an NNX module accepts anything, and hands it on.
    called = getattr(module, "nnx_class", module).__call__
    known = signature(called).parameters
    return {name: value for name, value in options.items() if name in known}


def stage_name(number: int) -> str:
    """Names a stage by its number in the whole network."""
    # Two digits, so that names sort in network order: pruning relies on it.
    return f"stage_{number:02d}"


class Stages(nn.Module):
    """A sequence of modules, named `stage_00`, `stage_01`, … in network order.

    A stage whose norm computes batch statistics is a module of `(x, train, weight)`, so
    that padding does not enter them; any other may be one of `(x, train)` or `(x)`.

    Attributes:
      stages: for each, a function `name -> module`; the module may take `train` and
        `weight`, `[B]`, 0 for padding, or None if there is none.
      first: number of the first stage in the whole network.
    """

    # A tuple: networks are hashed, by caches and as static arguments.
    stages: tuple[Callable[..., nn.Module], ...]
    first: int = 0

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, weight: jax.Array | None = None
    ) -> jax.Array:
        """Applies every stage; `train` selects batch or running statistics."""
        # The server's numbers continue the client's: no cut changes a name.
        for number, stage in enumerate(self.stages, self.first):
            module = stage(name=stage_name(number))
            x = module(x, **_accepted(module, train=train, weight=weight))
        return x


def apply(
    half: nn.Module,
    variables: Variables,
    x: jax.Array,
    weight: jax.Array | None = None,
    *,
    train: bool,
) -> tuple[jax.Array, Variables]:
    """Applies one half to a batch.

    Args:
      half: `SplitModel.client` or `SplitModel.server`.
      variables: its variables.
      x: `[B, ...]`.
      weight: `[B]`, 1 for an example and 0 for padding, which does not enter batch
        statistics; no padding if not given.
      train: use this batch's statistics and update the running ones, if there are any.

    Returns:
      The outputs `[B, ...]`, and the variables with their statistics updated.
    """
    if not train:
        return half.apply(variables, x, False), variables  # type: ignore[return-value]
    options = _accepted(half, train=True, weight=weight)
    y, changed = half.apply(variables, x, **options, mutable=["batch_stats"])
    return y, {**variables, **changed}


def joined_parts(head: Mapping[str, Any], tail: Mapping[str, Any]) -> Variables:
    """Joins the variables, or gradients, of the parts that a client holds."""
    kinds = {**head, **tail}
    return {kind: {**head.get(kind, {}), **tail.get(kind, {})} for kind in kinds}


@dataclass(frozen=True, kw_only=True)
class SplitModel:
    """A network cut in two, or, if it is U-shaped, in three.

    Attributes:
      client: the layers before the cut, `Stages` or another module called as they are.
      server: the layers after it, up to the logits, or up to a second cut.
      input_shape: `(H, W, Ch)` of one example.
      num_classes: C.
      tail: the layers after a second cut, up to the logits, which the client holds, so
        that no label leaves it; their numbers follow the server's. None if there is no
        such cut.
      by_class: the network at the cut of each class of devices, where these differ; it
        is itself at the deepest of them. See `models.class_cuts`.
    """

    client: nn.Module
    server: nn.Module
    input_shape: tuple[int, int, int]
    num_classes: int
    tail: "Stages | None" = None
    by_class: "tuple[SplitModel, ...]" = ()

    @property
    def whole(self) -> "Stages":
        """The network uncut, for methods that do not split it.

        Raises:
          ValueError: if the halves are not `Stages`.
        """
        halves = (self.client, self.server, *([self.tail] if self.tail else []))
        if not all(isinstance(half, Stages) for half in halves):
            raise InputError("expected halves that are `Stages`, to join them.")
        return Stages(tuple(stage for half in halves for stage in half.stages))

    def init(self, key: jax.Array) -> SplitParams:
        """Draws the variables of both sides; the client's are those of its parts."""
        return self._init(key)

    # Outside a program it is compiled once, and not each of its operations.
    @cached_property
    def _init(self) -> Callable[[jax.Array], SplitParams]:
        return jax.jit(self._drawn, inline=True)

    def _drawn(self, key: jax.Array) -> SplitParams:
        # The same key draws other weights at another cut; `recut` moves them instead.
        client_key, server_key = jax.random.split(key)
        image = jnp.zeros((1, *self.input_shape))
        client = self.client.init(client_key, image, False)
        cut = jnp.zeros((1, *self.cut_shape()))
        server = self.server.init(server_key, cut, False)
        if self.tail is not None:
            features = jnp.zeros((1, *self.tail_shape()))
            tail = self.tail.init(jax.random.fold_in(key, 2), features, False)
            client = joined_parts(client, tail)
        # A half of functions alone has no variables, and no key for them.
        return SplitParams({"params": {}, **client}, {"params": {}, **server})

    # Traced once: a network of many layers takes a second each time.
    @cached_property
    def shapes(self) -> SplitParams:
        """The shapes of the variables of both sides."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def parts(self, client: Variables) -> tuple[Variables, Variables]:
        """Parts a client's variables: before the first cut, and after the second."""
        if self.tail is None:
            return client, {}
        first = stage_name(self.tail.first)

        def those(behind: bool) -> Variables:
            return {
                kind: {n: x for n, x in tree.items() if (n >= first) == behind}
                for kind, tree in client.items()
            }

        return those(behind=False), those(behind=True)

    def activations(self, key: jax.Array) -> Any:
        """What a black image is at the cut, `[1, ...]`, by weights drawn from a key."""
        image = jnp.zeros((1, *self.input_shape))
        return self.client.init_with_output(key, image, False)[0]

    def cut_shape(self) -> tuple[int, ...]:
        """The shape of one example's activations at the cut."""
        return self._cut_shape

    def tail_shape(self) -> tuple[int, ...]:
        """The shape of one example's features at the second cut, or of its logits."""
        return self._tail_shape

    @cached_property
    def _cut_shape(self) -> tuple[int, ...]:
        return jax.eval_shape(self.activations, jax.random.key(0)).shape[1:]

    @cached_property
    def _tail_shape(self) -> tuple[int, ...]:
        def features(key: jax.Array) -> Any:
            cut = jnp.zeros((1, *self.cut_shape()))
            return self.server.init_with_output(key, cut, False)[0]

        return jax.eval_shape(features, jax.random.key(0)).shape[1:]

    def predict(self, params: SplitParams, image: jax.Array) -> jax.Array:
        """Logits `[B, C]` of images `[B, H, W, Ch]` through all parts."""
        head, tail = self.parts(params.client)
        activations, _ = apply(self.client, head, image, train=False)
        features, _ = apply(self.server, params.server, activations, train=False)
        if self.tail is None:
            return features
        return apply(self.tail, tail, features, train=False)[0]


def cut_at(
    stages: Sequence[Callable[..., nn.Module]],
    cut: int,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    tail: int = 0,
) -> SplitModel:
    """Cuts a network of stages: the first `cut` and the last `tail` are a client's."""
    last = len(stages) - tail
    return SplitModel(
        client=Stages(tuple(stages[:cut])),
        server=Stages(tuple(stages[cut:last]), first=cut),
        input_shape=input_shape,
        num_classes=num_classes,
        tail=Stages(tuple(stages[last:]), first=last) if tail else None,
    )


def recut(params: SplitParams, model: SplitModel) -> SplitParams:
    """Moves the variables of a split network to another cut.

    Args:
      params: of the network, cut anywhere.
      model: the same network with the new cut.

    Returns:
      The same arrays, in the halves of `model`.
    """

    def half(like: Variables) -> Variables:
        both = {k: params.client.get(k, {}) | params.server.get(k, {}) for k in like}
        return {kind: {n: both[kind][n] for n in like[kind]} for kind in like}

    return SplitParams(half(model.shapes.client), half(model.shapes.server))
