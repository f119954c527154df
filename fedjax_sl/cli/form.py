"""Forms: the options of a dataclass in the groups that help shows.

tyro groups options by dataclass, and keeps a line break of a field's docstring if the
next line is indented. A form is what tyro fills in instead: it has the same options in
other groups, and docstrings without line breaks. The dataclass is built from the
filled-in form after parsing, so that its errors do not pass through tyro.
"""

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)


class Option(NamedTuple):
    """An option.

    Attributes:
      flag: its name on the command line, without dashes.
      group: of options that it is shown with; none if it is among the first.
      hint: its type.
      default: what it is if not given.
      help: its text.
    """

    flag: str
    group: str
    hint: Any
    default: Any
    help: str

    @property
    def key(self) -> str:
        """The name of its field in a form."""
        return "option_" + self.flag.replace("-", "_").replace(".", "__")

    @property
    def field(self) -> StructFieldSpec:
        """Its field in a form."""
        shown = tyro.conf.arg(name=self.flag, help=self.help, prefix_name=False)
        required = self.default is dataclasses.MISSING
        return StructFieldSpec(
            name=self.key,
            type=Annotated[self.hint, shown],  # type: ignore[arg-type]
            default=tyro.MISSING if required else self.default,
        )


class Part(NamedTuple):
    """A dataclass and its fields: options, and dataclasses again."""

    kind: type
    fields: "dict[str, Option | Part]"

    def options(self) -> Iterator[Option]:
        """All options in it."""
        for part in self.fields.values():
            if isinstance(part, Option):
                yield part
            else:
                yield from part.options()

    def built(self, values: dict[str, Any]) -> Any:
        """The dataclass with these values of its options, by key."""
        return self.kind(
            **{
                name: values[part.key]
                if isinstance(part, Option)
                else part.built(values)
                for name, part in self.fields.items()
            }
        )


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
        return _part(cls.kind, cls.flags)

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


def _part(
    options: Any, first: Sequence[str], prefix: str = "", group: str = ""
) -> tuple[Part, dict[str, str]]:
    """A dataclass taken apart, and what each group of its options is about."""
    kind = options if isinstance(options, type) else type(options)
    hints, texts = get_type_hints(kind, include_extras=True), _texts(kind)
    fields: dict[str, Option | Part] = {}
    about = {group: _joined(kind.__doc__)}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        default = _default(field, options)
        if dataclasses.is_dataclass(default):
            inner = prefix if _unnamed(hint) else f"{prefix}{field.name}."
            fields[field.name], more = _part(default, first, inner, field.name)
            about |= more
            continue
        flag = (prefix + field.name).replace("_", "-")
        shown_in = "" if flag in first else group
        fields[field.name] = Option(
            flag=flag,
            group=shown_in,
            hint=_made(hint),
            default=default,
            help=texts[field.name],
        )
    return Part(kind, fields), about


def _unnamed(hint: Any) -> bool:
    """Whether options of a nested dataclass go without its name."""
    arguments = getattr(hint, "__metadata__", ())
    return any(getattr(argument, "name", None) == "" for argument in arguments)


def _made(hint: Any) -> Any:
    """The type that a field's `constructor_factory` makes, or the field's own.

    tyro calls the factory, too, but then shows the default as a list of words.
    """
    arguments = getattr(hint, "__metadata__", ())
    factories = (getattr(a, "constructor_factory", None) for a in arguments)
    return next((factory() for factory in factories if factory), hint)


def _default(field: dataclasses.Field, options: Any) -> Any:
    """The default of a field: that of an instance, or that of its class."""
    if not isinstance(options, type):
        return getattr(options, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    # MISSING where there is none, so that tyro requires the option.
    return field.default


@functools.cache
def _texts(kind: type) -> dict[str, str]:
    """The docstring of each field, of the class or of its bases."""
    found = dict.fromkeys((field.name for field in dataclasses.fields(kind)), "")
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            params = docstring_parser.parse_from_object(base).params
            found |= {param.arg_name: _joined(param.description) for param in params}
    return found


def _joined(text: str | None) -> str:
    """Paragraphs without the line breaks and indentation of the source."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
