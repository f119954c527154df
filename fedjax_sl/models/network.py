"""A network as a list of stages, which may be cut between any two of them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
from flax import linen as nn

from fedjax_sl.checks import check_integer
from fedjax_sl.errors import InputError
from fedjax_sl.models.class_cuts import cut_by_class
from fedjax_sl.models.split import SplitModel, Stages, cut_at


class Function(nn.Module):
    """A function without parameters, such as `nn.relu`, as a stage."""

    function: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the function."""
        return self.function(x)


class Stage(NamedTuple):
    """A part of a network that stays on one side of the cut.

    Attributes:
      build: `build(name=...) -> module` of `(x)`, `(x, train)` or `(x, train, weight)`,
        see `models.split.Stages`.
      layers: how many layers it counts as, where a cut is given by a number.
      last_of_client: whether the network may be cut after it.
    """

    build: Callable[..., nn.Module]
    layers: int = 1
    last_of_client: bool = True


def stage(part: Stage | nn.Module | Callable) -> Stage:
    """Makes a stage of a Flax module or of a function of x."""
    if isinstance(part, Stage):
        return part
    if not callable(part):
        raise InputError(
            f"A stage is {part!r}: expected a Flax module or a function of x."
        )
    module = part if isinstance(part, nn.Module) else Function(part)
    fields = {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        # Flax sets these two where the module is used.
        if field.init and field.name not in ("name", "parent")
    }
    # Built anew where it is used, so that Flax takes it for a part of that network.
    return Stage(lambda name: type(module)(**fields, name=name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network of stages, not cut yet.

    Attributes:
      stages: the stages in order; the last returns the logits.
      input_shape: `(H, W, Ch)` of one example.
      num_classes: C.
    """

    stages: tuple[Stage, ...]
    input_shape: tuple[int, int, int]
    num_classes: int

    @property
    def whole(self) -> nn.Module:
        """The network uncut, for methods that do not split it."""
        return Stages(tuple(stage.build for stage in self.stages))

    @property
    def cuts(self) -> tuple[int, ...]:
        """Numbers of layers on the client's side that a cut may leave there."""
        return tuple(cut for cut, _ in self._ends)

    @property
    def _ends(self) -> list[tuple[int, int]]:
        """Layers and stages on the client's side, for each cut."""
        layers = itertools.accumulate(stage.layers for stage in self.stages)
        # The server has a stage at least.
        found = enumerate(zip(layers, self.stages[:-1], strict=False), 1)
        return [(cut, n) for n, (cut, stage) in found if stage.last_of_client]

    def tails(self, cut: int) -> tuple[int, ...]:
        """Numbers of layers that a second cut, after a first one, may leave behind."""
        layers = sum(stage.layers for stage in self.stages)
        # Behind the first cut: between both the server has a stage at least.
        return tuple(sorted(layers - other for other in self.cuts if other > cut))

    def at(self, cut: int | tuple[int, ...], *, tail: int = 0) -> SplitModel:
        """Cuts the network after `cut` layers, and before the last `tail`, if any.

        Args:
          cut: L_c, layers before the first cut; or G of them, one for each class of
            devices.
          tail: layers after a second one, which the client holds, too; 0 if there is no
            second cut.

        Raises:
          ValueError: if it cannot be cut there.
        """
        if isinstance(cut, tuple):
            if not cut:
                raise InputError("cut=(): expected a number of layers for each class.")
            return cut_by_class([self.at(number, tail=tail) for number in cut])
        check_integer("cut", cut, 1)
        check_integer("tail", tail, 0)
        ends = dict(self._ends)
        if cut not in ends:
            raise InputError(
                f"cut={cut}: expected {_listed(self.cuts)} layers on the client's side."
            )
        tails = (0, *self.tails(cut))
        if tail not in tails:
            raise InputError(
                f"tail={tail} behind cut={cut}: expected {_listed(tails)} layers."
            )
        # Cuts and tails are given in layers, of which a stage may count as several.
        second = ends[sum(stage.layers for stage in self.stages) - tail] if tail else 0
        return cut_at(
            [stage.build for stage in self.stages],
            ends[cut],
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            tail=len(self.stages) - second if tail else 0,
        )


def _listed(numbers: Iterable[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last


def network(
    parts: Iterable[Stage | nn.Module | Callable],
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> Network:
    """Makes a network of Flax modules, cut after any but the last.

    Args:
      parts: modules of `(x)`, of `(x, train)` or of `(x, train, weight)`, `weight`
        `[B]` being 0 for padding; functions of x; or `Stage`s. NNX modules are wrapped
        by Flax's `nnx.bridge.ToLinen`.
      input_shape: `(H, W, Ch)` of one example.
      num_classes: C.

    Returns:
      The `Network`.

    Raises:
      ValueError: if there are fewer than two parts, or more than 100.
    """
    stages = tuple(stage(part) for part in parts)
    # Names of two digits sort in network order: see `models.split.stage_name`.
    if not 2 <= len(stages) <= 100:
        raise InputError(f"A network of {len(stages)} stages: expected 2 to 100.")
    return Network(stages=stages, input_shape=input_shape, num_classes=num_classes)
