"""The study of FedLP-Q: its runs, its messages, and what is read from them."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from experiments import fedlpq_figures, fedlpq_messages
from experiments.fedlpq_reading import (
    PUBLISHED,
    claims,
    disjoint,
    heads,
    order,
    readings,
    runs_of,
    whole,
    write_reading,
)
from experiments.fedlpq_setting import (
    FULL,
    QUESTIONS,
    ROUNDINGS,
    SCHEMES,
    SHORT,
    USUAL,
    config_of,
)
from experiments.fedlpq_study import cells
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedlpq.presets import PRESETS
from fedjax_sl.fedlpq.run_config import CNNConfig
from fedjax_sl.records.run_folder import read_lines


LEVELS = {
    **{"(0.2)": 0.40, "(0.5)": 0.50, "(0.8)": 0.60, "FedAvg": 0.70},
    **{"(1)": 0.30, "(3)": 0.35, "(u)": 0.45, "(5)": 0.55},
}
"""An accuracy of each scheme, rising as published."""


def row(labels, seed, accuracy):
    """A run that ends with these evaluations."""
    rounds = {"rounds": [5, 10, 15], "code": "abc"}
    return USUAL | labels | rounds | {"seed": seed, "accuracy": [accuracy] * 3}


def rows_where(accuracy, questions=QUESTIONS, seeds=3):
    """Every run of the study, its accuracy by its labels and seed."""
    found = cells(SHORT, seeds, questions)
    return [
        row(cell.labels, cell.config.seed, accuracy(cell.labels, cell.config.seed))
        for cell in found
    ]


def test_the_full_scale_is_what_is_published():
    """The preset, but for how often it is evaluated: the run is its default scheme."""
    labels = USUAL | {"scheme": "(0.5)", "bits": 10}
    published = PRESETS["cifar10-fedlpq"].run.resolved()
    assert config_of(FULL, labels, 0) == replace(published, eval_every=FULL.eval_every)


def test_every_run_is_computed_once():
    found = cells(SHORT, 2)
    names = [cell.folder for cell in found]
    assert len(set(names)) == len(names) and not any("/" in name for name in names)
    assert len({repr(cell.config) for cell in found}) == len(found)
    table = [cell for cell in cells(SHORT, 1, ["table"])]
    assert len(table) == 2 * 8 * (1 + 2 * 2)
    assert set(PUBLISHED) == set(SCHEMES)


def test_rising_schemes_hold_where_seeds_agree():
    found = claims(rows_where(lambda labels, seed: LEVELS[labels["scheme"]] + seed / 9))
    verdicts = {claim.text: claim.verdict for claim in found}
    assert set(verdicts.values()) == {"holds"} and len(verdicts) == 6
    # Paired differences are exact, the intervals of the means are wide.
    rows = rows_where(lambda labels, seed: LEVELS[labels["scheme"]] + seed / 9)
    assert disjoint(rows) == []
    close = rows_where(lambda labels, seed: LEVELS[labels["scheme"]] + seed / 1e4)
    assert "(1) < (3)" in disjoint(close) and len(disjoint(close)) == 6


def test_a_scheme_that_ends_higher_than_it_should():
    swapped = LEVELS | {"(0.8)": 0.75}
    found = claims(rows_where(lambda labels, seed: swapped[labels["scheme"]]))
    verdicts = {claim.text: claim.verdict for claim in found}
    assert verdicts["(0.8) ends lower than FedAvg"] == "does not hold"


def test_what_bits_cost_is_paired_over_seeds():
    """Floor loses 2 points whatever the seed does, the others nothing."""
    rows = rows_where(
        lambda labels, seed: 0.6 + seed / 9 - 0.02 * (labels["rounding"] == "floor")
    )
    text = readings(rows)
    assert "| FedAvg | 8 | floor | 3 | 2.0 ± 0.0 | 7.1 |" in text
    assert "| (0.5) | 10 | nearest | 3 | 0.0 ± 0.0 | 0.1 |" in text


def test_a_seed_that_only_one_run_has_is_no_pair():
    rows = [row({}, 0, 0.6), row({}, 1, 0.9)]
    rows.append(row({"bits": 8, "rounding": "floor"}, 0, 0.5))
    assert "| FedAvg | 8 | floor | 1 | 10.0 | 7.1 |" in readings(rows)
    assert runs_of(rows, {"bits": 8}) == {}


@pytest.mark.slow
def test_savings_are_the_published_ones():
    text = order([])
    assert "| (0.2) | 0 | – | 73.4 | 40.0 | 0.0 |" in text
    assert "| (1) | 0 | – | 64.4 | 84.6 | 51.2 |" in text
    assert "| (u) | 0 | – | 70.1 | 71.1 | 34.5 |" in text


@pytest.mark.slow
def test_everything_is_written(tmp_path):
    """Each table finds its runs."""
    rows = rows_where(lambda labels, seed: 0.5 + seed / 100, seeds=2)
    write_reading(SHORT, rows, tmp_path, "study")
    text = (tmp_path / "study.md").read_text()
    assert "–" not in text and "nan" not in text
    for part in (order(rows), readings(rows), heads(rows), whole(rows, "floor")):
        assert part in text
    assert "</svg>" in (tmp_path / "study.svg").read_text()


def tiny(scale, labels, seed):
    """The same run of a small network on a few small images."""
    run = config_of(scale, labels, seed)
    uneven = {"partition": run.data.partition, "min_size": 1}
    return replace(
        run,
        data=DataConfig(num_clients=4, train_examples=24, test_examples=10, **uneven),
        model=CNNConfig(width=0.05),
        method=replace(run.method, cohort_size=2),
    )


@pytest.mark.slow
def test_figures_show_messages_that_the_method_sends(tmp_path, monkeypatch):
    monkeypatch.setattr(fedlpq_messages, "config_of", tiny)
    monkeypatch.setattr(fedlpq_messages, "EPOCHS", {"iid": 2, "non-iid": 3})
    where = {"folders": tmp_path, "console": Console(quiet=True)}
    found = fedlpq_messages.messages(SHORT, tmp_path / "rows.jsonl", **where)
    assert [(one.partition, one.epoch) for one in found] == [("iid", 2), ("non-iid", 3)]
    assert len(read_lines(tmp_path / "message-non-iid-0/rounds.jsonl")) == 2
    sizes = [levels.size for levels in found[0].levels.values()]
    assert len(sizes) == 14 and sizes == sorted(sizes)

    monkeypatch.setattr(fedlpq_messages, "finish", None)
    again = fedlpq_messages.messages(SHORT, tmp_path / "rows.jsonl", **where)
    for one, other in zip(found, again, strict=True):
        assert one[:3] == other[:3]
        for name, levels in one.levels.items():
            np.testing.assert_array_equal(levels, other.levels[name])

    figures = fedlpq_figures
    for figure in (
        figures.encoded_bits(found[0]),
        figures.index_shares(found),
        figures.entropies(found),
    ):
        assert len(figure.axes) == 2
        figure.savefig(tmp_path / "figure.svg")


def test_learning_curves_and_schemes_are_drawn():
    rows = rows_where(lambda labels, seed: LEVELS[labels["scheme"]])
    curves = fedlpq_figures.learning_curves(rows)
    assert [len(axis.get_lines()) for axis in curves.axes] == [6, 6]
    left, right = fedlpq_figures.schemes().axes
    sent = np.asarray(right.get_images()[0].get_array())
    # A client of complexity 5 sends every layer, one of complexity 1 two blocks.
    assert sent[4].all() and sent[0].sum() == 4 and left.get_images()


def test_no_rounding_is_left_out():
    tried = {change["rounding"] for change in QUESTIONS["readings"]}
    assert tried == set(ROUNDINGS)
