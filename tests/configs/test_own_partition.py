"""A partition is one class, and a line in the registry."""

import dataclasses

import numpy as np
import pytest

from fedjax_sl import methods
from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.data import PARTITIONS, Dataset, Partition, Partitioner
from fedjax_sl.data.partition import check_clients, pack
from fedjax_sl.data.partitions import ENTRY_POINTS
from fedjax_sl.data.partitions import _installed as partitions_of
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.records.finished_run import read
from fedjax_sl.reports.labels import labels
from fedjax_sl.runs.build import divide
from tests.commands import refused
from tests.methods.fedavgm import SPEC
from tests.packages import install


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks(Partitioner):
    """Examples in their order, some more for the first client."""

    options = ("min_size",)

    min_size: int = 1
    head_start: int = 3

    def __call__(self, rng, labels, num_clients) -> Partition:
        check_clients(labels, num_clients)
        blocks = np.array_split(np.arange(len(labels)), num_clients)
        first, rest = np.split(np.concatenate(blocks[1:]), [self.head_start])
        owned = [np.concatenate([blocks[0], first])]
        return pack([*owned, *np.array_split(rest, num_clients - 1)])


def blank(size):
    """Black images of one class."""
    return Dataset.from_arrays(np.zeros((size, 4, 4), np.uint8), np.zeros(size, int))


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.setitem(PARTITIONS, "blocks", Blocks)


def test_without_its_line_it_is_refused():
    with pytest.raises(ValueError, match=r"partition='blocks': expected one of \('iid"):
        DataConfig(partition="blocks")


@pytest.mark.usefixtures("blocks")
def test_it_is_built_with_the_options_of_the_configuration():
    data = DataConfig(partition="blocks", min_size=5, num_clients=4)
    assert data.partitioner() == Blocks(min_size=5)
    assert set(data.idle) == {
        *(
            "alpha",
            "self_balancing",
            "shards_per_client",
            "classes_per_client",
            "major_share",
            "sizes",
        )
    }
    owned = divide(data, blank(100), seed=0)
    assert owned.count.tolist() == [28, 24, 24, 24]
    assert owned.index[0].tolist() == list(range(28))


@pytest.mark.slow
@pytest.mark.usefixtures("blocks")
def test_it_is_run_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(methods._registered, "fedavgm", SPEC)  # compiled in no time
    folder = tmp_path / "run"
    few = ["--data.num-clients", "3", "--data.train-examples", "60"]
    few += ["--data.test-examples", "20", "--eval-every", "1", "--rounds", "1"]
    asked = ["run", "fedavgm", "--data.partition", "blocks", *few]
    main([*asked, "--folder", str(folder)])
    assert read(folder).config.data.partition == "blocks"
    assert "'blocks'" in refused(["run", "--data.partition", "odd"], capsys)


def test_another_package_registers_its_own(tmp_path, monkeypatch):
    entry = f"{__name__}:Blocks"
    install(tmp_path, ENTRY_POINTS, {"blocks": entry})
    monkeypatch.syspath_prepend(str(tmp_path))
    partitions_of.cache_clear()
    assert isinstance(DataConfig(partition="blocks").partitioner(), Blocks)
    install(tmp_path, ENTRY_POINTS, {"iid": entry})
    partitions_of.cache_clear()
    with pytest.raises(ValueError, match="'iid': expected a name of its own"):
        DataConfig()
    monkeypatch.undo()
    partitions_of.cache_clear()


def test_options_of_other_kinds_are_checked():
    with pytest.raises(ValueError, match="alpha=-1"):
        DataConfig(alpha=-1.0)


def test_each_option_is_a_field_of_both():
    of_config = {field.name: field for field in dataclasses.fields(DataConfig)}
    for kind in PARTITIONS.values():
        for field in dataclasses.fields(kind):
            if field.name in kind.options:
                assert of_config[field.name].default == field.default
        assert set(kind.options) <= {field.name for field in dataclasses.fields(kind)}


def test_only_options_of_the_own_kind_are_in_a_label():
    def run(partition, **options):
        return FedSLRun(data=DataConfig(partition=partition, **options))

    both = labels([run("dirichlet", alpha=0.1), run("dirichlet", alpha=0.2)])
    assert both == [{"alpha": "0.1"}, {"alpha": "0.2"}]
    assert labels([run("iid", alpha=0.1), run("iid", alpha=0.2)]) == [{}, {}]
