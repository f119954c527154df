"""The folder of a run by an earlier version is resumed, compared and reported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.records.finished_run import read


EARLIER = Path(__file__).parents[1] / "earlier" / "fedsl"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(EARLIER, tmp_path / "run"))


def test_it_is_read(folder, capsys):
    main(["compare", str(folder)])
    shown = capsys.readouterr().out
    assert f"{read(folder).lines[-1]['test_accuracy']:.3g}" in shown


@pytest.mark.slow
def test_it_is_resumed(folder):
    before = read(folder)
    main(["run", "--folder", str(folder), "--resume", "--rounds", "6"])
    after = read(folder)
    assert [line["round"] for line in after.lines] == [2, 4, 6]
    assert after.lines[:2] == before.lines
    assert (after.record.traffic.uplink[:4] == before.record.traffic.uplink).all()
    assert after.lines[-1]["uplink_bits"] == after.record.traffic.uplink.sum()
    # Also of the rounds before, whose lines have none.
    sent, owned = (
        after.record.traffic.uplink > 0,
        json.loads((folder / "summary.json").read_text())["label_histogram"],
    )
    trained = np.minimum(np.sum(owned, axis=1), after.config.batch_size)
    epoch = trained[after.record.client_id][sent].sum() / np.sum(owned)
    assert after.lines[-1]["epoch"] == pytest.approx(epoch)


@pytest.mark.slow
def test_it_is_reported(folder):
    main(["report", str(folder)])
    page = (folder / "report.html").read_text()
    assert "Unpruned share of each layer" in page and "Labels of each client" in page


def test_it_does_what_its_version_did(folder):
    """Its configuration lacks fields whose defaults would change what it computes."""
    method = read(folder).config.method
    assert (method.scoring, method.thin_cut) == ("pass", False)


def test_a_person_s_few_options_get_today_s_defaults(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"algorithm": "fedsl", "method": {"bits": 4}}')
    method = from_json(path).method
    assert (method.bits, method.scoring, method.thin_cut) == (4, "running", True)
