"""What can be pruned of the layers that a client holds, read off a traced program."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from flax import linen as nn

from fedjax_sl.compression.groups import Group, Member
from fedjax_sl.models.split import SplitModel
from fedjax_sl.models.trace import Traced, trace_module
from fedjax_sl.models.walker import Path, Product


class Counted(NamedTuple):
    """A product of the client's half.

    Attributes:
      macs: of one example.
      kernel: the parameter that is a factor; None if both are computed.
      groups: numbers of the groups that a product of activations has channels of.
    """

    macs: int
    kernel: Path | None
    groups: tuple[int, ...]


class Prunable(NamedTuple):
    """The layers that a client holds, as pruning sees them.

    Attributes:
      groups: channels that are kept or pruned together, in network order.
      statistics: the group of each running statistic `[n]`, by path.
      at_cut: number of the group of the channels at the cut; None if they must stay.
      products: in order of execution.
      kernels: parameters that are factors of a product, of which weights are pruned.
      in_tail: those of the products that are behind a second cut.
    """

    groups: tuple[Group, ...]
    statistics: dict[Path, int]
    at_cut: int | None
    products: tuple[Counted, ...]
    kernels: frozenset[Path]
    in_tail: tuple[Counted, ...] = ()


def _removable(found: Traced) -> list[int]:
    """Returns the atoms whose channels products write, in order of execution.

    If a kernel writes several axes, as `[inputs, heads, units]` does, the first is
    pruned, the heads, and the others stay.
    """
    atoms, order = found.atoms, []
    for product in found.products:
        parts = [part for axis in product.written for part in atoms.resolve(axis)]
        free = [part for part in parts if atoms.group((part,)) is not None]
        order.extend(atoms.group((part,)) for part in free[:1])
        atoms.fix(*((part,) for part in free[1:]))
    # What is written once more, by another kernel, may have to stay.
    alive = [atom for atom in order if not atoms.is_fixed(atom)]
    return list(dict.fromkeys(alive))


def _member(found: Traced, path: Path, number: int, atom: int) -> Member | None:
    """The place of a group in an axis of a parameter; None if it has none there."""
    parts = found.atoms.resolve(found.leaves[path][number])
    for n, part in enumerate(parts):
        if found.atoms.group((part,)) == atom:
            before, after = (_size(rest) for rest in (parts[:n], parts[n + 1 :]))
            # Without `params` in front: a group is of the tree of parameters.
            return Member(path[1:], number, before, after)
    return None


def _size(parts: Sequence[Any]) -> int:
    size = 1
    for part in parts:
        size *= part.size
    return size


def _group(found: Traced, atom: int) -> Group:
    # Not resolved: behind a sum a kernel may read the channels that it writes.
    written = {part.atom for p in found.products for axis in p.written for part in axis}
    kernels, others = [], []
    for path, axes in found.leaves.items():
        if path[0] != "params":
            continue
        for number, axis in enumerate(axes):
            member = _member(found, path, number, atom)
            if member is None:
                continue
            own = {part.atom for part in axis}
            (kernels if own & written else others).append(member)
    order = [p.leaf[1:] for p in found.products if p.leaf is not None]
    # In order of execution: the group has the name of its first kernel.
    kernels.sort(key=lambda member: order.index(member.path))
    size = found.atoms.size(atom)
    return Group("/".join(kernels[0].path), size, tuple(kernels), tuple(others))


def _counted(found: Traced, product: Product, groups: dict[int, int]) -> Counted:
    kernel = product.leaf
    if kernel is not None:
        return Counted(product.macs, kernel[1:], ())
    parts = [part for axis in product.axes for part in found.atoms.resolve(axis)]
    atoms = dict.fromkeys(found.atoms.group((part,)) for part in parts)
    return Counted(product.macs, None, tuple(groups[a] for a in atoms if a in groups))


def _part(module: nn.Module, shape: tuple[int, ...], *, ends: bool) -> Prunable:
    """Finds what can be pruned of some layers; not logits, if the network `ends`."""
    found = trace_module(module, shape)
    if ends:
        # Each logit is of a class, which stays.
        found.atoms.fix(*found.output)
    number = {atom: n for n, atom in enumerate(_removable(found))}
    statistics = {
        path: number[atom]
        for path, axes in found.leaves.items()
        if path[0] != "params"
        and len(axes) == 1
        and (atom := found.atoms.group(axes[0])) in number
    }
    at_cut = found.atoms.group(found.output[-1])
    return Prunable(
        groups=tuple(map(partial(_group, found), number)),
        statistics=statistics,
        # Channels that no product here writes have no number, and are not pruned.
        at_cut=None if at_cut is None else number.get(at_cut),
        products=tuple(_counted(found, product, number) for product in found.products),
        kernels=frozenset(
            product.leaf[1:]
            for product in found.products
            # Only leaves of several axes are scored, see `compression.scores`.
            if product.leaf is not None and len(found.leaves[product.leaf]) > 1
        ),
    )


def _together(head: Prunable, tail: Prunable) -> Prunable:
    """Joins the parts before the first cut and after the second."""
    # Each part numbers its groups from 0; the tail's follow the head's.
    before = len(head.groups)
    behind = tuple(
        product._replace(groups=tuple(before + number for number in product.groups))
        for product in tail.products
    )
    moved = {path: before + number for path, number in tail.statistics.items()}
    return Prunable(
        groups=head.groups + tail.groups,
        statistics={**head.statistics, **moved},
        at_cut=head.at_cut,
        products=head.products + behind,
        kernels=head.kernels | tail.kernels,
        in_tail=behind,
    )


# Traced once: a network of many layers takes a second each time.
@lru_cache(maxsize=64)
def prunable(model: SplitModel) -> Prunable:
    """Finds what can be pruned of the layers that a client of a network holds."""
    head = _part(model.client, model.input_shape, ends=False)
    if model.tail is None:
        return head
    # Traced apart: the server is in between, so that no channels are common to both.
    return _together(head, _part(model.tail, model.tail_shape(), ends=True))
