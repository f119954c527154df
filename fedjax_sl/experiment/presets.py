"""What each name of a method starts from, and a file instead of a name."""

from pathlib import Path

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.experiment.config import FedLPQRun, FedSLRun, Run, from_json
from fedjax_sl.fedlpq import FedLPQConfig


METHODS: dict[str, Run] = {
    "fedsl": FedSLRun(),
    "fedlpq": FedLPQRun(),
    "fedlp": FedLPQRun(method=FedLPQConfig(bits=FLOAT_BITS)),
    "fedavg": FedLPQRun(method=FedLPQConfig(bits=FLOAT_BITS, keep_probability=1.0)),
}
"""What each name starts from."""


def start_of(arguments: list[str]) -> tuple[str, list[str], Run]:
    """The method's name, its options, and the configuration that they change.

    Args:
      arguments: `[METHOD] [OPTIONS]` as typed.

    Returns:
      The three of them.

    Raises:
      ValueError: if the method is unknown, or not that of the file given.
      OSError: if the file cannot be read.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    name, rest = (arguments[0], arguments[1:]) if named else ("fedsl", arguments)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}: expected one of {tuple(METHODS)}.")
    for place, word in enumerate(rest):
        if word == "--config" or word.startswith("--config="):
            _, _, joined = word.partition("=")
            config = from_json(Path(joined or (rest[place + 1 :] or [""])[0]))
            if named and config.algorithm != METHODS[name].algorithm:
                raise ValueError(
                    f"--config is of a run of {config.algorithm}, not of {name}."
                )
            return config.algorithm, rest, config
    return name, rest, METHODS[name]
