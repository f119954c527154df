"""A command line: the command that it is of, and that command's options."""

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from fedjax_sl.cli.form import Form, form_of
from fedjax_sl.cli.options import PROGRAM, Branch, Names, call, union
from fedjax_sl.cli.presets import Start


Options = TypeVar("Options")

SUMMARIES = {
    "run": "Train and evaluate, and leave a folder with the record.",
    "sweep": "Train a grid of runs, and leave a folder with a run for each point.",
    "list": "List data at hand, presets, methods, networks and compressors.",
    "compare": "Compare finished runs over a channel; nothing is trained.",
    "suggest": "Choose among the settings of finished runs, by their cost.",
    "plan": "Choose settings by the convergence bound, before any run.",
    "report": "Write a page about finished runs, with pictures.",
    "export": "Write the weights of a run's global model to a file.",
    "privacy": "Count the differential privacy that finished runs had.",
    "codec": "Code a client's update by every coder, against its entropy.",
    "cost": "Show what clients compute and send; nothing is trained.",
    "bound": "Bound the squared gradient, constants estimated in a short run.",
}
"""Every command, in a line."""


FIRST = (
    *("grid", "seeds", "rounds", "seed", "folder", "resume", "overwrite"),
    *("config", "data.name", "data.num-clients", "data.partition", "model.cut"),
    *("model.width", "method.bits", "method.prune-ratio", "method.learning-rate"),
)
"""Options that people change first, which a command's help shows first."""


@dataclass
class Nothing:
    """The options of a command that was not given."""


class Line(NamedTuple):
    """A command line.

    Attributes:
      words: as typed.
      start: the options that defaults of others depend on.
    """

    words: tuple[str, ...]
    start: Start

    def parse(self, options: Options | type[Options]) -> Options:
        """Reads a command's options.

        Args:
          options: their dataclass, or one whose values are the defaults.

        Returns:
          The options.

        Raises:
          ValueError: if an option is unknown or cannot be understood, or its dataclass
            refuses its value.
          SystemExit: 0 after help.
        """
        name = self.start.name
        form = form_of(options, name)
        return self._filled(form, SUMMARIES[name], [form]).options()

    def parse_one_of(
        self,
        branches: Mapping[str, Branch[Options]],
        about: str,
        default: str | None = None,
    ) -> tuple[str, Options]:
        """As `parse`, of a command whose first argument is one of several names.

        Args:
          branches: by name.
          about: what the command is.
          default: the name if none is given.

        Returns:
          The name and its options.
        """
        kinds = {
            name: (form_of(branch.options, name, FIRST), branch.help)
            for name, branch in branches.items()
        }
        if default is not None:
            about += "".join(_first_options(kinds[default][0], name=self.start.command))
        forms = [form for form, _ in kinds.values()]
        names = Names("method", branches)
        form = self._filled(union(kinds, default), about, forms, names)
        return form.name, form.options()

    def _filled(
        self,
        kind: Any,
        about: str,
        forms: Sequence[type[Form]],
        names: Names | None = None,
    ) -> Form:
        """The form of the command, or of one of its branches."""

        # A function: only an unknown option is worth laying out every form.
        def flags() -> list[str]:
            found = (option.flag for form in forms for option in form.part().options())
            return sorted(set(found))

        # tyro has to know the other commands, but none of their options.
        kinds: dict[str, tuple[Any, str]] = {
            name: (Nothing, said) for name, said in SUMMARIES.items()
        }
        command = self.start.command
        # Under the word that was typed: `suggest --bound` has the options of plan.
        kinds[command] = (kind, about)
        own = [word for word in self.words[1:2] if names and word in names.known]
        return call(
            union(kinds),
            self.words,
            see=" ".join((PROGRAM, command, *own, "--help")),
            names=names,
            flags=flags,
        )


def entry(name: str, text: str, *, column: int) -> str:
    """A name and what it is, as lines that fit the terminal.

    tyro does not wrap what is above its boxes, and joins lines starting with letters.
    """
    width = shutil.get_terminal_size().columns
    apart = len(name) + 3 > column
    head = f"\n  {name}\n" if apart else f"\n  {name:<{column - 2}}"
    # `wrap` refuses widths below 1, which a narrow terminal would give.
    lines = textwrap.wrap(text, max(width - column, 20))
    indent = " " * column
    return head + indent * apart + f"\n{indent}".join(lines)


def _first_options(form: type[Form], name: str) -> Iterator[str]:
    """The options of a form that people change first."""
    yield f"\n\nThe first of the options that {PROGRAM} {name} METHOD --help shows:\n"
    for option in form.first():
        yield entry(f"--{option.flag}", option.help, column=24)
