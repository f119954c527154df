"""Writes docs/fields.md: every field of a configuration, its default and its range.

python docs/make_fields.py
"""

import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.federation.aggregator_config import AggregatorConfig
from fedjax_sl.federation.level_config import LevelConfig
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig


PAGE = Path(__file__).with_name("fields.md")

PARTS = (
    ("Of every run", "", RunConfig, FedSLRun()),
    ("Data", "data.", DataConfig, DataConfig()),
    ("Network of FedSL", "model.", ModelConfig, ModelConfig()),
    ("Network of FedLP-Q", "model.", CNNConfig, CNNConfig()),
    ("FedSL", "method.", FedSLConfig, FedSLConfig()),
    ("FedLP-Q, FedLP, FedAvg", "method.", FedLPQConfig, FedLPQConfig()),
    ("Compressors", "method.LINK.", CompressorConfig, CompressorConfig()),
    ("Levels of updates", "method.levels.", LevelConfig, LevelConfig()),
    ("Aggregator", "method.aggregator.", AggregatorConfig, AggregatorConfig()),
    ("Channel", "channel.", Channel, Channel()),
)
OWN = {"rounds", "batch_size", "eval_every"}
"""Their defaults differ between methods."""


def meanings(kind: type) -> dict[str, str]:
    """What the text below each field of a class says."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    inherits = dataclasses.is_dataclass(kind.__base__)
    found = meanings(kind.__base__) if inherits else {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        told = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and told:
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def choices(kind: type, name: str) -> tuple[object, ...]:
    """The values that a field may have, if they are few; none otherwise."""
    hint = get_type_hints(kind)[name]
    shown = get_type_hints(kind, include_extras=True)[name]
    for argument in getattr(shown, "__metadata__", ()):
        if getattr(argument, "constructor_factory", None) is not None:
            hint = argument.constructor_factory()
    return get_args(hint) if get_origin(hint) is Literal else ()


def by_class(kind: type, name: str) -> bool:
    """Whether a field may have a value for each class of devices."""
    return any(
        get_origin(hint) is tuple for hint in get_args(get_type_hints(kind)[name])
    )


def page() -> str:
    """The page."""
    methods = FedSLRun(), FedLPQRun()
    parts = [
        "# Fields of a configuration\n",
        "As options (`--method.prune-ratio 0.5`), in `config.json`, and as axes of a "
        "sweep (`--grid method.prune_ratio=0,0.5`). What is out of its range, of "
        "another type or not finite is refused in one sentence with exit code 2. Two "
        "defaults are FedSL's / FedLP-Q's. *By class*: one value, or several "
        "(`--method.bits 8 4`), one for each class of devices, of which client k is of "
        "number k mod the number of classes. LINK is one of the "
        "[links](compressors.md#every-link) with a compressor. Commands have options "
        "of their own besides (`--help`). This page is written by "
        "`python docs/make_fields.py`.\n",
    ]
    for heading, prefix, kind, usual in PARTS:
        parts.append(
            f"## {heading}\n\n| field | default | meaning and range |\n|---|---|---|"
        )
        fields = {field.name for field in dataclasses.fields(kind)}
        for name, meaning in meanings(kind).items():
            if name not in fields:
                continue
            default = getattr(usual, name)
            if isinstance(default, CompressorConfig):
                default = "[float32](#compressors)"
            elif dataclasses.is_dataclass(default):
                continue
            if known := choices(kind, name):
                meaning += f" One of {', '.join(map(str, known))}."
            if by_class(kind, name):
                meaning += " *By class.*"
            shown = f"{default}"
            if name in OWN:
                shown = " / ".join(str(getattr(one, name)) for one in methods)
            meaning = meaning.replace("|", "\\|")
            parts.append(f"| `{prefix}{name}` | {shown} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
