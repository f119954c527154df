"""A sweep's runs are runs; they are compared and pictured without training."""

import base64
import contextlib
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fedjax_sl.analysis.pareto import pareto_front
from fedjax_sl.cli.compare import Compare
from fedjax_sl.cli.line import Line
from fedjax_sl.cli.main import main
from fedjax_sl.cli.presets import start_of
from fedjax_sl.cli.run_selection import select
from fedjax_sl.federation import clients
from fedjax_sl.records.finished_run import read
from fedjax_sl.records.run_folder import held, read_lines
from fedjax_sl.reports.groups import Group
from fedjax_sl.reports.names import name_of
from fedjax_sl.runs import points
from tests.browser import assert_readable, pages_shown
from tests.commands import PERCEPTRON, refused


SMALL = [
    *("fedlpq", "--data.num-clients", "4", "--method.cohort-size", "3"),
    *(*PERCEPTRON, "--rounds", "2", "--eval-every", "1"),
    *("--batch-size", "50", "--method.learning-rate", "0.001"),
    *("--data.partition", "dirichlet", "--data.train-examples", "500"),
]
GRID = ["--grid", "method.bits=6,32", "--seeds", "2"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two widths of numbers and two seeds, whose clients own different numbers."""
    folder = tmp_path_factory.mktemp("sweep") / "grid"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main(["sweep", *SMALL, *GRID, "--folder", str(folder)])
    (folder.parent / "said").write_text(said.getvalue())
    return folder


@pytest.mark.slow
def test_a_point_is_the_run_alone(swept, tmp_path):
    config = swept / "run-0003" / "config.json"
    main(["run", "--config", str(config), "--folder", str(tmp_path / "alone")])
    for name in ("metrics.jsonl", "rounds.jsonl"):
        alone = read_lines(tmp_path / "alone" / name)
        for a, b in zip(alone, read_lines(config.with_name(name)), strict=True):
            a.pop("wall_seconds", None)
            assert a.keys() == b.keys()
            for key in a:
                np.testing.assert_allclose(a[key], b[key], rtol=2e-3, err_msg=key)


@pytest.mark.slow
def test_runs_that_a_device_computes_at_once_are_the_same(swept, tmp_path, monkeypatch):
    """Six on four devices: two on a device are a batch."""
    folder, sizes = tmp_path / "batched", []

    def chunks(size):
        sizes.append(size)
        return clients.chunks(size)

    monkeypatch.setattr(points, "chunks", chunks)
    more = ["--seeds", "3", "--vmapped", "2", "--folder", str(folder)]
    main(["sweep", *SMALL, *GRID, *more])

    def by_point(where):
        found = {}
        for path in sorted(where.glob("run-*/config.json")):
            config = json.loads(path.read_text())
            lines = read_lines(path.with_name("rounds.jsonl"))
            found[config["method"]["bits"], config["seed"]] = lines
        return found

    assert sizes == [2]
    alone, batched = by_point(swept), by_point(folder)
    assert len(batched) == 6 and set(alone) < set(batched)
    for point, lines in alone.items():
        for a, b in zip(lines, batched[point], strict=True):
            for key in a:
                np.testing.assert_allclose(a[key], b[key], rtol=2e-3, err_msg=key)


@pytest.mark.slow
def test_the_time_left_is_told(swept):
    said = (swept.parent / "said").read_text()
    told = re.findall(
        r"^run (\d)/4: .*; (?:about (\d:\d\d:\d\d)|time) left", said, re.M
    )
    assert [number for number, _ in told] == ["1", "2", "3", "4"]
    # The first call of the program says nothing about it.
    at_once = jax.device_count()
    known = [bool(time) for _, time in told]
    assert known == [number > at_once or number == 4 for number in (1, 2, 3, 4)]
    assert told[-1][1] == "0:00:00"


def test_every_run_is_in_the_table(swept):
    table = pq.read_table(swept / "sweep.parquet").to_pylist()
    assert [(x["method.bits"], x["seed"], x["round"]) for x in table] == [
        (bits, seed, done) for bits in (6, 32) for seed in (0, 1) for done in (1, 2)
    ]
    last = read_lines(swept / "run-0002" / "metrics.jsonl")[-1]
    assert last.items() <= table[5].items()


def test_it_goes_on_where_it_stopped(swept, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(swept, copy)
    kept = (copy / "run-0000/metrics.jsonl").stat().st_mtime_ns
    (copy / "sweep.parquet").unlink()
    main(["sweep", *SMALL, *GRID, "--folder", str(copy)])
    assert (copy / "run-0000/metrics.jsonl").stat().st_mtime_ns == kept
    assert (copy / "sweep.parquet").exists()
    said = refused(
        ["sweep", *SMALL, "--grid", "method.bits=5", "--folder", copy], capsys
    )
    assert "holds another sweep" in said
    with held(copy):
        said = refused(["sweep", *SMALL, *GRID, "--folder", copy], capsys)
    assert f"{copy} is in use" in said


def test_another_channel_takes_no_training(swept, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def columns(*options):
        main(["compare", str(swept), "--target", "0.01", *options])
        rows = re.findall(
            r"^ *run-\d+ \+1 +\S+ +(\d+) .* 2/2 +(.*)$",
            capsys.readouterr().out,
            re.M,
        )
        number = r"(?:^|(?<= ))[\d.]+(?:e\+\d+)?"
        return {
            bits: [float(x) for x in re.findall(number, rest)] for bits, rest in rows
        }

    usual, narrow = columns(), columns("--channel.bandwidth-hz", "1e6")
    assert usual.keys() == narrow.keys() == {"6", "32"}
    for bits, (_, sent, seconds, _) in usual.items():
        assert narrow[bits][1] == sent
        assert narrow[bits][2] > 2 * seconds


def test_simulated_time_is_in_the_metrics(swept):
    few, many = (
        read_lines(swept / f"run-000{n}" / "metrics.jsonl")[-1] for n in (0, 2)
    )
    assert 0 < few["sim_seconds"] < many["sim_seconds"]
    assert 0 < few["sim_joules"] < many["sim_joules"]
    rounds = read_lines(swept / "run-0000" / "rounds.jsonl")
    sent = sum(sum(one["updates_up_bits"]) for one in rounds)
    assert sent == few["uplink_bits"]


@pytest.mark.slow
def test_side_information_can_be_left_out(swept, tmp_path, capsys):
    """Of 32-bit numbers only they are left: parameters of layers that were sent."""

    def found(*options):
        words = ("compare", str(swept), "--target", "0.01", *options)
        main(words)
        said = capsys.readouterr().out
        assert ("not counted" in said) == ("--no-charge-side" in options)
        line, quiet = Line(words, start_of(words)), Console(quiet=True)
        return [run.record for run in select(line, Compare, quiet)[1]]

    without, everything = found("--no-charge-side"), found()
    assert len(without) == len(everything) == 4
    for a, b in zip(without, everything, strict=True):
        assert (a.traffic.updates_up < b.traffic.updates_up).all()
        assert not a.side.updates_up.any() and b.side.updates_up.all()
    for one in read_lines(swept / "run-0002" / "rounds.jsonl"):
        numbers = np.array(one["updates_up_bits"]) - one["updates_up_side_bits"]
        assert (numbers > 0).all() and not (numbers % 32).any()
    page = tmp_path / "page.html"
    for options, said in (([], "is counted: "), (["--no-charge-side"], "not counted")):
        main(["report", str(swept / "run-0000"), "--output", str(page), *options])
        assert said in page.read_text()


@pytest.mark.slow
def test_the_report_needs_nothing_else(swept, tmp_path):
    page = tmp_path / "page.html"
    main(["report", str(swept), "--output", str(page)])
    text = page.read_text()
    assert page.stat().st_size < 5e6
    assert not re.search(r'(src|href)="(?!data:)', text)
    images = re.findall(
        r'<img alt="([^"]+)" src="data:image/svg\+xml;base64,(.+?)"', text
    )
    assert len(images) == len(list((tmp_path / "page").glob("*.svg"))) >= 3
    for alt, data in images:
        assert len(alt) > 30
        ElementTree.fromstring(base64.b64decode(data))
    best = max(
        np.mean(
            [
                read_lines(swept / f"run-000{n + seed}/metrics.jsonl")[-1][
                    "test_accuracy"
                ]
                for seed in (0, 1)
            ]
        )
        for n in (0, 2)
    )
    assert f"{best:.4f}" in text
    main(["report", str(swept), "--output", str(page)])


@pytest.mark.slow
def test_a_browser_shows_the_report_on_a_wide_and_a_narrow_screen(swept, tmp_path):
    """Whole, without a network, and with the figures of metrics.jsonl."""
    page = tmp_path / "page.html"
    main(["report", str(swept), "--output", str(page)])
    last = [
        read_lines(swept / f"run-000{n}/metrics.jsonl")[-1]["test_accuracy"]
        for n in range(4)
    ]
    wide, narrow = pages_shown(page, (1280, 390), tmp_path)
    assert_readable(wide), assert_readable(narrow)
    assert wide["table"] == narrow["table"]
    head, *rows = wide["table"]
    found = [row[head.index("final accuracy")].split(" ±")[0] for row in rows]
    assert found == [f"{np.mean(last[n : n + 2]):.4f}" for n in (0, 2)]


def test_a_seed_that_has_not_come_as_far_is_pictured_too(swept, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(swept, copy)
    metrics = copy / "run-0000/metrics.jsonl"
    metrics.write_text(metrics.read_text().split("\n")[0] + "\n")
    main(["report", str(copy)])
    assert (copy / "report.html").exists()


def test_a_page_of_somebody_else_is_kept(swept, tmp_path, capsys):
    page = tmp_path / "index.html"
    page.write_text("<h1>My home page</h1>")
    assert "is no report" in refused(["report", swept, "--output", page], capsys)
    bare = ["report", swept, "--output", tmp_path / "page"]
    assert "expected a name such as" in refused(bare, capsys)
    assert page.read_text() == "<h1>My home page</h1>"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--grid", "method.colour=1,2"], "unknown field 'colour'."),
        (["--grid", "method.bit=1,2"], "unknown field 'bit'; did you mean 'bits'?"),
        (["--grid", "method=1,2"], "expected a field of it"),
        (["--grid", "method.bits"], "expected FIELD=VALUE"),
        (["--grid", "method.bits=4,,8"], "expected FIELD=VALUE"),
        (["--grid", "method.bits=4,4"], "expected each value once"),
        (["--grid", "method.bits=4", "--grid", "method.bits=8"], "expected once"),
        (["--grid", "seed=1,2"], "expected --seeds"),
        (["--grid", "channel.bandwidth-hz=1,2"], "with `compare`"),
        (["--grid", "channel.deadline-s=1,2"], "a deadline that --drop-stragglers has"),
        (["--grid", "method.bits=4,99"], "bits=99"),
        (["--seeds", "0"], "seeds=0"),
        (["--at-a-time", "0"], "at_a_time=0"),
        (["--vmapped", "0"], "vmapped=0"),
        (["--eval-every", "3"], "expected a divisor"),
        (["--seed", "-1"], "seed=-1"),
        (["--grid", "data.name=digits,cifar1000"], "cifar1000"),
        (["--grid", "data.num-clients=4,5000"], "5000"),
    ],
)
def test_a_sweep_that_makes_no_sense(tmp_path, capsys, options, said):
    arguments = ["sweep", *SMALL, *options, "--folder", tmp_path / "new"]
    assert said in refused(arguments, capsys)
    assert not (tmp_path / "new").exists()


def damaged(swept, tmp_path, name, text):
    copy = tmp_path / "run"
    shutil.copytree(swept / "run-0000", copy)
    (copy / name).write_text(text, errors="surrogateescape")
    return copy


def test_a_half_written_line_is_left_out(swept, tmp_path, capsys):
    whole = (swept / "run-0000/metrics.jsonl").read_text()
    copy = damaged(swept, tmp_path, "metrics.jsonl", whole[:-20])
    with pytest.warns(UserWarning, match="half written"):
        main(["compare", str(copy), "--target", "0.01"])
    assert "1/1" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["compare", "report"])
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics.jsonl", "", "holds no line yet"),
        ("metrics.jsonl", "{]\n", "line 1 is not a JSON object"),
        ("rounds.jsonl", "[" * 10**5 + "\n", "line 1 is not a JSON object"),
        (
            "metrics.jsonl",
            '{"round": 1, "test_accuracy": 1' + "0" * 400 + "}\n",
            "test_accuracy in [0, 1]",
        ),
        ("metrics.jsonl", '{"round": 9}\n', "expected a round after 0 and its"),
        (
            "metrics.jsonl",
            '{"round": 9, "test_accuracy": 0.5}\n',
            "expected 9 rounds, found 2",
        ),
        ("rounds.jsonl", '{"round": 0}\n{"round": 1}\n', "another version"),
        ("rounds.jsonl", None, "expected numbers of the same clients"),
        ("metrics.jsonl", "\udcff\n", "is no text"),
        ("config.json", "{", "is not JSON"),
        ("config.json", json.dumps({"algorithm": "magic"}), "algorithm='magic'"),
    ],
)
def test_a_damaged_folder(swept, tmp_path, capsys, command, name, text, said):
    if text is None:  # rounds of nobody
        rounds = read_lines(swept / "run-0000" / name)
        nobody = [{key: [] for key in row} | {"round": row["round"]} for row in rounds]
        text = "".join(json.dumps(row) + "\n" for row in nobody)
    copy = damaged(swept, tmp_path, name, text)
    assert said in refused([command, copy], capsys)


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", '{"label_histogram": [[1, 2], [3]]}']
)
def test_a_damaged_summary(swept, tmp_path, capsys, text):
    copy = damaged(swept, tmp_path, "summary.json", text)
    assert "expected a label_histogram" in refused(["report", copy], capsys)


def test_runs_that_differ_in_much_are_named_by_their_folders(swept):
    """Names of a dozen settings would leave no room for the pictures."""
    run = read(swept / "run-0000")
    few, many = ({f"x{n}": str(n) for n in range(count)} for count in (2, 9))
    assert name_of(Group("run-0000", few, [run], [])) == "x0 0, x1 1"
    assert name_of(Group("run-0000", many, [run], [])) == "run-0000 (FedLP-Q)"


def test_a_page_is_not_written_over_what_is_no_file(swept, capsys):
    said = refused(["report", swept, "--output", "/dev/full"], capsys)
    assert "/dev/full is no report" in said


def test_an_empty_folder(tmp_path, capsys):
    assert "expected the folder of a run" in refused(["compare", tmp_path], capsys)
    (tmp_path / "sweep.json").write_text("[]")
    assert "no run of this sweep has" in refused(["report", tmp_path], capsys)


def test_a_suggestion_is_the_cheapest_that_reaches_the_target(swept, capsys):
    main(["suggest", str(swept), "--target", "0.01", "--by", "bits"])
    said = capsys.readouterr().out
    assert re.search(r"least bits: FedLP-Q, bits 6\b", said)
    assert "measured in these runs" in said
    said = refused(["suggest", swept, "--target", "1"], capsys)
    assert "no setting reaches it" in said and "highest accuracy" in said


def test_who_looks_at_an_unfinished_sweep_is_told(swept, tmp_path, capsys):
    part = tmp_path / "part"
    shutil.copytree(swept, part)
    runs = sorted(part.glob("run-*"))
    shutil.rmtree(runs[0])
    for command, *options in (["compare"], ["suggest", "--target", "0.05"]):
        main([command, str(part), *options])
        said = " ".join(capsys.readouterr().out.split())
        assert f"part: {len(runs) - 1} of {len(runs)} runs are finished." in said
        main([command, str(swept), *options])
        assert "runs are finished" not in capsys.readouterr().out


def test_the_front_holds_what_nothing_beats():
    cost = np.array([1.0, 2.0, 3.0, 2.5, 1.0])
    gain = np.array([0.5, 0.7, 0.6, 0.9, 0.4])
    assert pareto_front(cost, gain).tolist() == [0, 1, 3]
