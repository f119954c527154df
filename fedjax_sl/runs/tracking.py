"""A run's metrics where other tools look for them, while it lasts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.records.run_folder import EVENTS


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Trackers that a run's metrics are sent to."""

    tensorboard: bool = False
    """Write event files for TensorBoard, into events/ of the run's folder."""

    wandb: str | None = None
    """Project of Weights & Biases to report to, if that is installed."""

    def __post_init__(self):
        """Checks that what is asked for is there."""
        if self.wandb is not None and find_spec("wandb") is None:
            raise InputError(
                f"wandb={self.wandb}: expected Weights & Biases to be installed "
                "(pip install wandb)."
            )


Track = Callable[[dict[str, Any]], None]


@contextmanager
def _events(folder: Path, first: int) -> Iterator[Track]:
    from tensorboardX import SummaryWriter

    # Events of rounds that are run again are no longer shown.
    with SummaryWriter(str(folder / EVENTS), purge_step=first) as writer:

        def track(line):
            for name, value in line.items():
                if name != "round":
                    writer.add_scalar(name, value, line["round"])
            writer.flush()

        yield track


@contextmanager
def _wandb(project: str, folder: Path, config: RunConfig) -> Iterator[Track]:
    import wandb  # type: ignore[import-not-found]

    name = str(folder.absolute())
    # The same name goes on with the same run.
    identity = name.replace("/", "-").strip("-")[-64:]
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
    asked: Tracking, folder: Path, config: RunConfig, done: int
) -> Iterator[Track]:
    """Tells those asked for while the block runs.

    Args:
      asked: whom to tell.
      folder: of the run.
      config: of the run.
      done: rounds that were run before.

    Yields:
      What is to be called with each line of metrics.
    """
    with ExitStack() as stack:
        tracks: list[Track] = []
        if asked.tensorboard:
            tracks.append(stack.enter_context(_events(folder, done + 1)))
        if asked.wandb is not None:
            tracks.append(stack.enter_context(_wandb(asked.wandb, folder, config)))

        def track(line):
            for one in tracks:
                one(line)

        yield track
