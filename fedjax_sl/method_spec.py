"""What a method tells the rest of the package, so that nobody else need name it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl.algorithm import Algorithm, State
from fedjax_sl.analysis.fedsl_bound import Choice, Setting
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.models.split import SplitModel, SplitParams
from fedjax_sl.traffic import Record


class Built(NamedTuple):
    """A method ready to run.

    Attributes:
      algorithm: the method.
      steps: optimiser steps in a round, of the client with most examples.
      devices: that the clients are spread over.
    """

    algorithm: Algorithm
    steps: int
    devices: int


ChooseMap = Callable[[int], ClientMap]
"""Bytes that one client takes on a device -> how clients are mapped."""

Build = Callable[[Any, Dataset, Partition, ChooseMap], Built]
"""`build(config, train, partition, choose_map)`; numbers of the method, and who owns
which example, may be traced."""

TrafficBound = Callable[[Any, Dataset, Partition, np.ndarray], Record]
"""`bound(config, train, partition, rounds) -> Record`, the most that each of the N
clients sends and computes in each of these rounds, `[T, N]`."""


class Preset(NamedTuple):
    """A name on the command line.

    Attributes:
      run: the configuration that it starts from.
      help: what it is, in a few words.
    """

    run: RunConfig
    help: str


class LastCheckpoint(NamedTuple):
    """The last checkpoint of a run, for what a report shows of it.

    Attributes:
      config: of the run.
      arrays: of the state, by name; none if there is no checkpoint.
      restored: loads the run's data, and gives the state with all it takes to go on.
    """

    config: Any
    arrays: dict[str, np.ndarray]
    restored: Callable[[], "Restored"]


class Restored(NamedTuple):
    """A state, and all that its next round takes."""

    algorithm: Algorithm
    state: State
    train: Dataset
    partition: Partition


class LayerBars(NamedTuple):
    """A picture with a bar for each of U layers.

    Attributes:
      name: of its file.
      heading: above it.
      alt: what it shows in words.
      axis: what the bars measure, with its unit.
      layers: their names.
      parts: by label, stacked: `[U]`, or `[K, U]` of several clients, of whom the mean
        is drawn with their range.
      marks: by label, `[U]`, drawn as points.
      caption: below it.
    """

    name: str
    heading: str
    alt: str
    axis: str
    layers: Sequence[str]
    parts: Mapping[str, np.ndarray]
    marks: Mapping[str, np.ndarray] = {}
    caption: str = ""


class Theory(NamedTuple):
    """How a method's settings enter the convergence bound of `analysis.fedsl_bound`.

    Attributes:
      check_covered: refuses a configuration that the theorem says nothing of.
      ignored: settings of a configuration that it leaves out of account, in words.
      model: the network of a configuration, for these images.
      global_params: of a state.
      setting: what the theorem needs of a configuration with this network.
      ratios: rho_t of every round, `[T]`.
      with_choice: the configuration with a choice in it.
      round_kinds: what each kind of round takes, as `fedsl.round_kinds.expected`.
    """

    check_covered: Callable[[Any], None]
    ignored: Callable[[Any], list[str]]
    model: Callable[[Any, Dataset], SplitModel]
    global_params: Callable[[State], SplitParams]
    setting: Callable[[Any, SplitModel], Setting]
    ratios: Callable[[Any], np.ndarray]
    with_choice: Callable[[Any, Choice], Any]
    round_kinds: Callable[[SplitModel, Any, int], Record]


class CostTable(NamedTuple):
    """A table of `fedjax-sl cost`: cells as text, and a sentence below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


class Costs(NamedTuple):
    """What `fedjax-sl cost METHOD` shows.

    Attributes:
      options: a dataclass, which the command line is made from.
      table: `table(options) -> CostTable`.
      help: what it is, in a few words.
    """

    options: type
    table: Callable[[Any], CostTable]
    help: str


class MethodSpec(NamedTuple):
    """A method, as runs, sweeps, reports and the command line see it.

    Attributes:
      config: the configuration of a run; its `algorithm` is the method's name.
      presets: names on the command line, the first one the method's own.
      build: from a configuration to the method; None if only a program can.
      traffic_bound: the most that clients send; None if stragglers cannot be told
        before a round (`drop_stragglers`).
      panels: pictures of a report, from the last checkpoint of a run.
      theory: its convergence bound, if there is one.
      costs: of its networks, if `fedjax-sl cost` has something to show.
    """

    config: type[RunConfig]
    presets: Mapping[str, Preset]
    build: Build | None
    traffic_bound: TrafficBound | None = None
    panels: Sequence[Callable[[LastCheckpoint], LayerBars | None]] = ()
    theory: Theory | None = None
    costs: Costs | None = None
