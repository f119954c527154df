"""Forms: the options of a dataclass in the groups that help shows.

tyro groups options by dataclass, and keeps a line break of a field's docstring if the
next line is indented. A form is what tyro fills in instead: it has the same options in
other groups, and docstrings without line breaks. The dataclass is built from the
filled-in form after parsing, so that its errors do not pass through tyro.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from fedjax_sl.cli.option_tree import Option, Part, taken_apart


class Group:
    """Options that are shown together. `form_of` makes a subclass for each group.

    Attributes:
      values: of its options, by key.
    """

    shown: Sequence[Option]

    def __init__(self, **values: Any):
        self.values = values

    @classmethod
    def fields(cls) -> Iterator[StructFieldSpec]:
        """What tyro is to fill in."""
        return (option.field for option in cls.shown)


class Form:
    """A filled-in form. `form_of` makes a subclass for each command.

    Attributes:
      name: of the subcommand that it is the form of.
      kind: a dataclass, or one whose values are the defaults.
      flags: that are in no group, in this order.
      values: of its options, by key, and its groups.
    """

    name: str
    kind: Any
    flags: Sequence[str]

    def __init__(self, **values: Any):
        self.values = values

    @classmethod
    # Bounded: a process that parses many lines would keep all their forms.
    @functools.lru_cache(maxsize=32)
    def _parts(cls) -> tuple[Part, dict[str, str]]:
        return taken_apart(cls.kind, cls.flags)

    @classmethod
    def part(cls) -> Part:
        """The dataclass taken apart."""
        return cls._parts()[0]

    @classmethod
    def first(cls) -> list[Option]:
        """The options that are in no group."""
        order = {flag: rank for rank, flag in enumerate(cls.flags)}
        return sorted(
            (option for option in cls.part().options() if not option.group),
            key=lambda option: order.get(option.flag, len(order)),
        )

    @classmethod
    def fields(cls) -> Iterator[StructFieldSpec]:
        """What tyro is to fill in."""
        part, about = cls._parts()
        yield from (option.field for option in cls.first())
        for group, text in about.items():
            shown = [option for option in part.options() if option.group == group]
            if group and shown:
                kind = type(group, (Group,), {"__doc__": text, "shown": shown})
                named = tyro.conf.arg(name=group, help=text)
                yield StructFieldSpec(
                    name=f"group_{group}",
                    type=Annotated[kind, named],  # type: ignore[arg-type]
                    default=tyro.MISSING,
                )

    def options(self) -> Any:
        """The dataclass that the form is of.

        Raises:
          ValueError: if it refuses a value.
        """
        values: dict[str, Any] = {}
        for name, value in self.values.items():
            values |= value.values if isinstance(value, Group) else {name: value}
        return self.part().built(values)


FORMS = ConstructorRegistry()
"""How tyro fills in a form: only that of the command that was given is laid out."""


@FORMS.struct_rule
def _laid_out(info: StructTypeInfo) -> StructConstructorSpec | None:
    kind = info.type
    if isinstance(kind, type) and issubclass(kind, Form | Group):
        return StructConstructorSpec(kind, tuple(kind.fields()))
    return None


def form_of(options: Any, name: str, first: Sequence[str] = ()) -> type[Form]:
    """The form of a dataclass.

    Args:
      options: it, or one whose values are the defaults.
      name: of the subcommand.
      first: flags that are in no group, in this order.

    Returns:
      The type that tyro is to fill in.
    """
    names = {"name": name, "kind": options, "flags": first, "__doc__": ""}
    return type(name, (Form,), names)
