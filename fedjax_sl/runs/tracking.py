"""Reports a run's metrics to other tools while it runs."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.extras import require
from fedjax_sl.records.run_folder import EVENTS


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Trackers that a run's metrics are sent to."""

    tensorboard: bool = False
    """Write event files for TensorBoard, into events/ of the run's folder."""

    wandb: str | None = None
    """Project of Weights & Biases to report to, if that is installed."""

    def __post_init__(self):
        """Checks that what is used is installed."""
        if self.tensorboard:
            require("tensorboardX", "tensorboard=True: event files need")
        if self.wandb is not None and find_spec("wandb") is None:
            raise InputError(
                f"wandb={self.wandb}: expected Weights & Biases to be installed "
                "(pip install wandb)."
            )


Track = Callable[[dict[str, Any]], None]


@contextmanager
def _events(folder: Path, first: int) -> Iterator[Track]:
    # Late: few runs need it, and it is an extra.
    from tensorboardX import SummaryWriter

    # A resumed run repeats some rounds: their earlier events are hidden.
    with SummaryWriter(str(folder / EVENTS), purge_step=first) as writer:

        def track(line):
            for name, value in line.items():
                if name != "round":
                    writer.add_scalar(name, value, line["round"])
            # The process may end before the writer flushes by itself.
            writer.flush()

        yield track


@contextmanager
def _wandb(project: str, folder: Path, config: RunConfig) -> Iterator[Track]:
    import wandb  # type: ignore[import-not-found]

    name = str(folder.absolute())
    # Derived from the folder, so that a resumed run continues the same W&B run.
    identity = name.replace("/", "-").strip("-")
    # W&B takes 64 characters; the ends of two long paths may be the same.
    if len(identity) > 64:
        digest = hashlib.sha256(name.encode()).hexdigest()
        identity = f"{identity[-47:]}-{digest[:16]}"
    run = wandb.init(
        project=project,
        id=identity,
        name=folder.name,
        dir=name,
        config={"algorithm": config.algorithm, **asdict(config)},
        resume="allow",
    )
    try:
        yield lambda line: run.log(line, step=line["round"])
    finally:
        run.finish()


@contextmanager
def tracking(
    options: Tracking, folder: Path, config: RunConfig, done: int
) -> Iterator[Track]:
    """Reports metrics to the chosen tools while the block runs.

    Args:
      options: the tools.
      folder: folder of the run.
      config: configuration of the run.
      done: rounds done before.

    Yields:
      A function to call with each line of metrics.
    """
    with ExitStack() as stack:
        tracks: list[Track] = []
        if options.tensorboard:
            tracks.append(stack.enter_context(_events(folder, done + 1)))
        if options.wandb is not None:
            tracks.append(stack.enter_context(_wandb(options.wandb, folder, config)))

        def track_all(line):
            for track in tracks:
                track(line)

        yield track_all
