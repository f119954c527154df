"""A dataclass as a tree of options: taken apart, and built again from their values."""

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import StructFieldSpec


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


def taken_apart(
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
            fields[field.name], more = taken_apart(default, first, inner, field.name)
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
