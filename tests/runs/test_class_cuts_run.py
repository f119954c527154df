"""A cut for each class of devices, from the command line to the report."""

import dataclasses
import json

import numpy as np
import pytest

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.estimates.theory import check_covered
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.runs.stragglers import in_time
from tests.commands import refused
from tests.runs.test_resume import assert_same_run
from tests.worlds import assert_equal, tiny_dataset, tiny_partition


RUN = [
    *("run", "fedsl", "--data.name", "digits", "--data.num-clients", "4"),
    *("--method.cohort-size", "4", "--method.interval", "2", "--eval-every", "2"),
    *("--model.name", "mlp", "--model.width", "0.05", "--method.prune-end", "2"),
]
CUTS = [*RUN, "--model.cut", "1", "2"]


def test_a_run_is_resumed_bit_for_bit_and_reported(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    updates = ["--method.updates.kind", "qsgd", "--method.updates.feedback", "error"]
    run = [*CUTS, *updates]
    main([*run, "--rounds", "4", "--folder", str(whole)])
    main([*run, "--rounds", "2", "--folder", str(parts)])
    main(["run", "--resume", "--folder", str(parts), "--rounds", "4"])
    assert_same_run(parts, whole)
    assert json.loads((whole / "config.json").read_text())["model"]["cut"] == [1, 2]
    line = json.loads((whole / "rounds.jsonl").read_text().splitlines()[0])
    sent = dict(zip(line["client_id"], line["model_down_bits"], strict=True))
    assert sent[0] == sent[2] < sent[1] == sent[3]
    main(["report", str(whole)])
    main(["compare", str(whole)])


def test_the_bound_is_not_of_it():
    with pytest.raises(InputError, match=r"model.cut=\(1, 2\): the bound is not of it"):
        check_covered(FedSLRun(model=ModelConfig(cut=(1, 2))))


@pytest.mark.slow
def test_equal_cuts_are_the_run_with_one(tmp_path):
    folders = [tmp_path / "one", tmp_path / "equal"]
    for folder, cuts in zip(folders, (["2"], ["2", "2"]), strict=True):
        run = [*RUN, "--rounds", "2", "--model.cut", *cuts, "--folder", str(folder)]
        main(run)
    assert_same_run(*folders)
    texts = [(folder / "config.json").read_text() for folder in folders]
    assert texts[0] == texts[1] and json.loads(texts[0])["model"]["cut"] == 2


@pytest.mark.slow
def test_who_is_late_is_judged_at_the_own_cut():
    """As in the network that all cut there; a deadline may admit one class only."""
    data = tiny_dataset()
    partition = tiny_partition(data)

    def those(cut, deadline):
        run = FedSLRun(
            model=ModelConfig(name="mlp", width=0.05, cut=cut),
            method=FedSLConfig(cohort_size=2, interval=2),
            channel=Channel(deadline_s=deadline, fading=False),
            drop_stragglers=True,
            rounds=2,
        )
        run = dataclasses.replace(run, data=DataConfig(num_clients=4))
        return in_time(run.resolved(), data, partition)

    mixed = []
    for deadline in np.geomspace(1e-3, 10, 40):
        try:
            mixed.append((deadline, those((1, 2), deadline)))
        except InputError:
            continue
    some = [(d, found) for d, found in mixed if not found.all()]
    assert some
    for deadline, found in some[:3]:
        for cut, first in ((1, 0), (2, 1)):
            assert_equal(found[:, first::2], those(cut, deadline)[:, first::2])


def test_what_is_wrong_is_said_in_one_sentence(tmp_path, capsys):
    folder = tmp_path / "run"
    said = refused([*RUN, "--model.cut", "1", "5", "--folder", str(folder)], capsys)
    assert "cut=5: expected 1 or 2 layers on the client's side" in said
    relay = [*CUTS, "--method.client-update", "relay", "--folder", str(folder)]
    assert "client_update='relay': expected 'parallel'" in refused(relay, capsys)
    assert not folder.exists()
