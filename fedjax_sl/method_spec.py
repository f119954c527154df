"""The interface between a method and the rest of the package."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl.algorithm import Algorithm, State
from fedjax_sl.analysis.fedsl_bound import Choice, Setting
from fedjax_sl.compressors.compressor import Compressor, Payload
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.models.split import SplitModel, SplitParams
from fedjax_sl.traffic import Record


class Built(NamedTuple):
    """A method ready to run.

    Attributes:
      algorithm: the method.
      steps: optimiser steps in a round, of the client with most examples.
      devices: number of devices that clients are spread over.
      parameters: of its whole network; None if that is not known.
      with_config: `with_config(method) -> Algorithm`, the method with other numbers in
        its configuration, which may be traced: a run with other numbers then compiles
        nothing again. None if the numbers are constants of the run's programs.
      warnings: of options that have no effect on its network.
    """

    algorithm: Algorithm
    steps: int
    devices: int
    parameters: int | None = None
    with_config: Callable[[Any], Algorithm] | None = None
    warnings: tuple[str, ...] = ()


ChooseMap = Callable[[int], ClientMap]
"""`choose_map(client_bytes)`: memory of one client on a device -> a `ClientMap`."""

Build = Callable[[Any, Dataset, Partition, ChooseMap], Built]
"""`build(config, train, partition, choose_map)`; hyperparameters of the method and the
partition may be traced."""

TrafficBound = Callable[[Any, Dataset, Partition], Callable[[np.ndarray], Record]]
"""`traffic_bound(config, train, partition)(rounds) -> Record`: upper bounds of the
traffic and the work of each of the N clients in each of these rounds, `[T, N]`."""


class Preset(NamedTuple):
    """A named configuration on the command line.

    Attributes:
      run: the configuration with its defaults.
      help: a short description.
    """

    run: RunConfig
    help: str


class LastCheckpoint(NamedTuple):
    """The last checkpoint of a run, as the panels of a report get it.

    Attributes:
      config: configuration of the run.
      arrays: arrays of the state by name; empty if there is no checkpoint.
      restored: loads the run's data and returns everything to resume from.
    """

    config: Any
    arrays: dict[str, np.ndarray]
    restored: Callable[[], "Restored"]


class Restored(NamedTuple):
    """A state, and everything that its next round needs."""

    algorithm: Algorithm
    state: State
    train: Dataset
    partition: Partition


class LayerBars(NamedTuple):
    """A bar chart with a bar for each of U layers.

    Attributes:
      name: file name.
      heading: heading above it.
      alt: alternative text.
      axis: quantity that the bars measure, with its unit.
      layers: names of the layers.
      parts: stacked bars by label: `[U]`, or `[K, U]` for several clients, whose mean
        and range are drawn.
      marks: points by label, `[U]`.
      caption: text below it.
    """

    name: str
    heading: str
    alt: str
    axis: str
    layers: Sequence[str]
    parts: Mapping[str, np.ndarray]
    # Never write to it: a NamedTuple's default is shared.
    marks: Mapping[str, np.ndarray] = {}
    caption: str = ""


class SentLayers(NamedTuple):
    """The tensors on a link, such as the layers of an update, as if all were sent.

    Attributes:
      rounds: completed before the one in which they are sent.
      client: whose message it is, its id.
      what: they are, in words.
      said: how they are compressed, in words.
      compressor: of each layer.
      layers: payloads by name, on the host.
      masks: by name `[...]` bool, the entries that may be sent.
    """

    rounds: int
    client: int
    what: str
    said: str
    compressor: Compressor
    layers: Mapping[str, Payload]
    masks: Mapping[str, Any]

    @property
    def levels(self) -> dict[str, np.ndarray]:
        """The integer levels, `{layer: [n_l]}`; empty if the payloads have none."""
        levels = self.compressor.levels
        if levels is None:
            return {}
        return {
            name: levels.sent(payload, self.masks[name])
            for name, payload in self.layers.items()
        }


class Theory(NamedTuple):
    """How a method's configuration enters the bound of `analysis.fedsl_bound`.

    Attributes:
      check_covered: rejects a configuration that the theorem does not cover.
      ignored: options of a configuration that the theorem ignores, in words.
      model: the network of a configuration for the images of a data set.
      cuts: the cuts of its network that a search tries.
      global_params: the global model of a state.
      setting: hyperparameters of the theorem, from a configuration and its network.
      ratios: rho_t of every round, `[T]`, of a configuration and its network.
      dropout: the largest dropout rate at the cut.
      with_choice: the configuration with the values of a choice.
      round_kinds: expected counts of each kind of round, as
        `fedsl.estimates.traffic.expected`.
    """

    check_covered: Callable[[Any], None]
    ignored: Callable[[Any], list[str]]
    model: Callable[[Any, Dataset], SplitModel]
    cuts: Callable[[Any, Dataset], tuple[int, ...]]
    global_params: Callable[[State], SplitParams]
    setting: Callable[[Any, SplitModel], Setting]
    ratios: Callable[[Any, SplitModel], np.ndarray]
    dropout: Callable[[Any], float]
    with_choice: Callable[[Any, Choice], Any]
    round_kinds: Callable[[SplitModel, Any, int], Record]


class CostTable(NamedTuple):
    """A table of `fedjax-sl cost`: cells as text, and a note below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


class Costs(NamedTuple):
    """The subcommand `fedjax-sl cost METHOD`.

    Attributes:
      options: dataclass of its options.
      table: `table(options) -> CostTable`.
      help: a short description.
    """

    options: type
    table: Callable[[Any], CostTable]
    help: str


class MethodSpec(NamedTuple):
    """A method, as runs, sweeps, reports and the command line see it.

    Attributes:
      config: class of a run's configuration; its `algorithm` is the method's name.
      presets: presets by name on the command line; the first is the method's default.
      build: builds the method from a configuration; None if only a program can.
      traffic_bound: bounds the traffic of clients; None if `drop_stragglers` is not
        supported.
      panels: functions that draw a report's charts from the last checkpoint of a run.
      sent_layers: `sent_layers(seen, link)` computes from the last checkpoint of a run
        what would be sent next on a link, or None if nothing of it would be coded; None
        if the method codes nothing.
      coded_links: that it knows, by the option of their compressor.
      theory: convergence bound, if there is one.
      costs: the subcommand of `fedjax-sl cost`, if there is one.
    """

    config: type[RunConfig]
    presets: Mapping[str, Preset]
    build: Build | None
    traffic_bound: TrafficBound | None = None
    panels: Sequence[Callable[[LastCheckpoint], LayerBars | None]] = ()
    sent_layers: Callable[[LastCheckpoint, str], SentLayers | None] | None = None
    coded_links: Sequence[str] = ("updates",)
    theory: Theory | None = None
    costs: Costs | None = None
