"""Calls tyro: subcommands, and one sentence for a wrong command line."""

import contextlib
import difflib
import io
import itertools
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, Union

import tyro

from fedjax_sl.cli.form import FORMS
from fedjax_sl.errors import InputError


Options = TypeVar("Options")

PROGRAM = "fedjax-sl"


class Branch(NamedTuple, Generic[Options]):
    """A subcommand: its options or their dataclass, and what it is."""

    options: Options | type[Options]
    help: str


def union(kinds: Mapping[str, tuple[Any, str]], default: str | None = None) -> Any:
    """A union type, of which tyro makes subcommands.

    `tyro.extras.subcommand_cli_from_dict` and `SubcommandApp` make the same type of
    functions, which they call: what a function refuses would be caught by tyro.
    """
    branches = [
        Annotated[
            Any,
            tyro.conf.subcommand(
                name,
                # As a default: a closure would see the last kind of the loop.
                constructor_factory=lambda kind=kind: kind,
                description=said,
                is_default=name == default,
            ),
        ]
        for name, (kind, said) in kinds.items()
    ]
    # A union has at least two members.
    return Union[(*branches, Annotated[None, tyro.conf.Suppress])]  # noqa: UP007


class Names(NamedTuple):
    """Names of subcommands, and of what they are."""

    of: str
    known: Collection[str]


def call(
    kind: Any,
    words: tuple[str, ...],
    *,
    see: str,
    names: Names | None = None,
    flags: Callable[[], Collection[str]] = tuple,
    **settings: Any,
) -> Any:
    """Calls tyro, and turns its box of an error into a sentence.

    Args:
      kind: the type to fill in.
      words: as typed.
      see: the command that shows help.
      names: of which one was to be given.
      flags: `flags()` are the options that there are, without dashes; asked for the one
        nearest to what is unknown.
      settings: of `tyro.cli`.

    Returns:
      What tyro returns.

    Raises:
      ValueError: if something is wrong, in a sentence.
      SystemExit: 0 after help.
    """
    box, help_text = io.StringIO(), io.StringIO()
    try:
        # Held back: help is wrapped first, and the box of an error becomes a sentence.
        with contextlib.redirect_stderr(box), contextlib.redirect_stdout(help_text):
            return tyro.cli(kind, prog=PROGRAM, args=words, registry=FORMS, **settings)
    except SystemExit as stop:
        # tyro ends with 0 after help and after a script for completion alone.
        if not stop.code:
            print(_wrapped(help_text.getvalue()), end="")
            raise
    raise InputError(f"{_sentence(box.getvalue(), names, flags)}; see {see}.")


def _wrapped(help_text: str) -> str:
    """Wraps the usage, which tyro leaves on one line however many methods there are."""
    usage, end, rest = help_text.partition("\n")
    width = shutil.get_terminal_size().columns
    if len(usage) > width:
        # Between the names of a choice there is no blank to wrap at.
        usage = textwrap.fill(
            usage.replace(",", ", "), width, subsequent_indent=" " * 4
        )
    return usage + end + rest


def _sentence(
    box: str, names: Names | None, flags: Callable[[], Collection[str]]
) -> str:
    """The first paragraph of a box, and the options similar to an unknown one.

    The box is the only public place of tyro's errors: it exits with 2, its exceptions
    carry no text, `console_outputs=False` leaves the box out, and the hook for errors
    (`tyro._errors.on_parse_error`) is private and may change in any release.

    A rule is below the first paragraph. Where a terminal has no other characters, rules
    are of dashes, one of them below the title, and there are no sides.
    """
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    is_text = itertools.groupby(lines, key=lambda line: bool(line.strip("─-")))
    said, *others = [list(group) for text, group in is_text if text] or [[""]]
    sentence = " ".join(said).removeprefix("Error parsing ").rstrip(".")
    unknown = re.match(UNKNOWN, sentence)
    if unknown is None:
        return _of_choices(_of_types(sentence))
    # The value of an unknown option follows it, as if it were unknown, too.
    word = unknown[1]
    # Without dashes it was meant as a subcommand.
    if names is not None and not word.startswith("-"):
        known = tuple(names.known)
        near = _meant(map(repr, difflib.get_close_matches(word, known, 1)))
        return f"unknown {names.of} {word!r}: expected one of {known}{near}"
    if _bare(word) in flags():
        return f"{word} is an option of other methods, not of this one"
    similar = [line for line in itertools.chain(*others) if line.startswith("--")]
    options = dict.fromkeys(line.split()[0].rstrip(",") for line in similar)
    # At most two, as tyro names up to nine.
    closest = difflib.get_close_matches(word, options, 2, cutoff=0)
    # Where another option is misplaced, tyro says after each what it is applied to.
    sentence = re.sub(r"(?: or misplaced|,? \(applied to .*?\))", "", sentence)
    return sentence + _meant(closest or _near(word, flags()))


def _meant(options: Iterable[str]) -> str:
    """The end of a sentence that names what is similar, if anything is."""
    found = ", ".join(options)
    return f"; did you mean {found}" if found else ""


def _near(word: str, flags: Collection[str]) -> list[str]:
    """The option, or the group of options, that is nearest to a word.

    tyro names options that share most letters with it; a group is none of them.
    """
    groups = {flag.partition(".")[0]: "…" for flag in flags if "." in flag}
    ends = dict.fromkeys(flags, "") | {
        f"{group}.": end for group, end in groups.items()
    }
    near = difflib.get_close_matches(_bare(word), ends, 1)
    return [f"--{name}{ends[name]}" for name in near]


def _bare(word: str) -> str:
    """The name of an option, without dashes and value."""
    return word.lstrip("-").partition("=")[0]


def _of_choices(sentence: str) -> str:
    """Names the choice that is nearest to what was given, where there are some."""
    found = re.search(
        r"invalid choice '(.*?)' for .*Expected one of \((.*)\)", sentence
    )
    if not found:
        return sentence
    known = re.findall(r"'([^']*)'", found[2])
    return sentence + _meant(map(repr, difflib.get_close_matches(found[1], known, 1)))


def _of_types(sentence: str) -> str:
    """Says which number was expected, where a box speaks of Python's types."""
    for pattern, kind in NUMBERS:
        if found := re.search(pattern, sentence):
            several = (
                ", or several with blanks between them" if "{[" in found[0] else ""
            )
            return (
                f"{sentence[: found.start()]}expected {kind}{several}, not {found[1]}"
            )
    return sentence


NUMBERS = (
    (r"invalid literal for int\(\) with base 10: (.*)$", "an integer"),
    (r"could not convert string to float: (.*)$", "a number"),
    (r"no type matching .*FLOAT.* could be instantiated from \[(.*)\]$", "a number"),
    (r"no type matching .*INT.* could be instantiated from \[(.*)\]$", "an integer"),
)
"""Ends of sentences about numbers, and what was expected."""

UNKNOWN = r"Unrecognized (?:or misplaced )?options: ([^\s,]+)"
"""The beginning of a box about unknown words; misplaced ones are another method's."""
