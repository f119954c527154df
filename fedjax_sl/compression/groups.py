"""Groups: what filter pruning removes together.

A filter goes with its bias, its norm, and the inputs of the next kernels that read it;
behind a residual sum, with the filters that are added to it. A group is a set of axes
of parameters that index the same channels: of n channels, each is kept or pruned.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from fedjax_sl.compression.layers import leaves_of
from fedjax_sl.errors import InputError


Path = tuple[str, ...]


class Member(NamedTuple):
    """An axis of a parameter that indexes the channels of a group.

    Attributes:
      path: of the parameter in its tree.
      axis: its number, from 0.
      before, after: the axis is `[before, n, after]`, flattened; both are 1 unless a
        reshape made one axis of several, as between a convolution and a dense layer.
    """

    path: Path
    axis: int
    before: int = 1
    after: int = 1


class Group(NamedTuple):
    """Channels of which each is kept or pruned as a whole.

    Attributes:
      name: the first of its kernels.
      size: n, number of channels.
      kernels: whose outputs the channels are; they are what is scored.
      others: biases, norms, and the inputs of kernels that read the channels.
    """

    name: str
    size: int
    kernels: tuple[Member, ...]
    others: tuple[Member, ...]


def chain(params: Any) -> tuple[Group, ...]:
    """Finds the groups of a plain sequence of layers, from its parameters alone.

    Args:
      params: nested dicts. Top-level entries are layers in network order; each has one
        leaf of several axes, the kernel, the last axis of which indexes its filters
        and the last but one its inputs. Other leaves are `[Cout]`.

    Returns:
      A group for each layer.

    Raises:
      ValueError: if a layer does not have one kernel.
    """
    leaves = leaves_of(params)
    # By name, which is network order: see `models.split.stage_name`.
    kernels = [_kernel_of(name, params[name]) for name in sorted(params)]
    groups = []
    for path, reader in zip(kernels, [*kernels[1:], None], strict=True):
        *_, size = leaves[path].shape
        others = [Member(p, 0) for p in leaves if p[0] == path[0] and p != path]
        if reader is not None:
            axis = leaves[reader].ndim - 2
            # Behind a flattened image a kernel has inputs for each of its pixels.
            others.append(Member(reader, axis, leaves[reader].shape[axis] // size))
        written = Member(path, leaves[path].ndim - 1)
        groups.append(Group("/".join(path), size, (written,), tuple(others)))
    return tuple(groups)


def _kernel_of(name: str, layer: Any) -> Path:
    leaves = leaves_of({name: layer})
    kernels = [p for p, leaf in leaves.items() if leaf is not None and leaf.ndim > 1]
    if len(kernels) != 1:
        raise InputError(f"A layer holds {len(kernels)} kernels: expected one.")
    return kernels[0]


def _other_axes(member: Member, leaf: jax.Array) -> tuple[int, ...]:
    return tuple(n for n in range(leaf.ndim) if n != member.axis)


def group_scores(groups: Sequence[Group], scores: Any) -> list[jax.Array]:
    """Sums the scores over all kernel entries of each channel, `[n]` for each group."""
    leaves = leaves_of(scores)

    # Not the square of a sum of g w, which is always 0 if a norm follows the
    # convolution: the loss then ignores a filter's scale.
    def summed(member: Member) -> jax.Array:
        leaf = leaves[member.path]
        return leaf.sum(axis=_other_axes(member, leaf))

    return [reduce(jnp.add, map(summed, group.kernels)) for group in groups]


def alive(groups: Sequence[Group], params: Any) -> list[jax.Array]:
    """Returns which channels have an entry that is not 0, `[n]` for each group."""
    leaves = leaves_of(params)

    def of_kernel(member: Member) -> jax.Array:
        leaf = leaves[member.path]
        return (leaf != 0).any(axis=_other_axes(member, leaf))

    return [jnp.stack([*map(of_kernel, g.kernels)]).any(axis=0) for g in groups]


def _along(keep: jax.Array, member: Member, ndim: int) -> jax.Array:
    """Repeats `[n]` along one axis of a leaf; the others have size 1."""
    keep = jnp.tile(jnp.repeat(keep, member.after), member.before)
    shape = [1] * ndim
    shape[member.axis] = keep.size
    return keep.reshape(shape)


def leaf_masks(groups: Sequence[Group], keeps: Sequence[jax.Array], like: Any) -> Any:
    """Spreads which channels are kept over all parameters that have these channels.

    Args:
      groups: the groups.
      keeps: `[n]` bool for each.
      like: arrays of the structure of the parameters, leaves `[...]`; None stands for
        one of a single axis.

    Returns:
      The structure of `like`: bool, of size 1 along axes that belong to no group, and
      None at leaves that no group has an axis of.
    """
    leaves = leaves_of(like)
    masks: dict[Path, Any] = dict.fromkeys(leaves)
    for group, keep in zip(groups, keeps, strict=True):
        for member in (*group.kernels, *group.others):
            leaf = leaves[member.path]
            own = _along(keep, member, 1 if leaf is None else leaf.ndim)
            before = masks[member.path]
            # A kernel between two groups reads channels of one, writes the other's.
            masks[member.path] = own if before is None else before & own
    return unflatten_dict(masks)


def channels_kept(group: Group, mask: Any) -> jax.Array:
    """Returns which channels of a group a mask keeps, `[n]` bool."""
    leaves = leaves_of(mask)
    # A bias has the mask itself; that of a kernel is of its inputs, too.
    member = min((*group.others, *group.kernels), key=lambda m: leaves[m.path].ndim)
    keep = leaves[member.path]
    keep = keep.any(axis=_other_axes(member, keep))
    return keep.reshape(member.before, group.size, member.after).any(axis=(0, 2))
