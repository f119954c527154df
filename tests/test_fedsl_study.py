"""The study of FedSL: runs are kept, and what is read from them is what they say."""

import re

import numpy as np
import pytest

from experiments.claims import verdicts
from experiments.fedsl_claims import claims, finals, targets, until
from experiments.fedsl_reading import write_reading
from experiments.fedsl_setting import (
    QUESTIONS,
    SCALES,
    SHORT,
    config_of,
    settings,
)
from experiments.fedsl_study import cells


def row(chosen, seed, *, level, pace, noise=0.0):
    """A run that rises to a level, an evaluation taking so many seconds."""
    pace = pace * chosen.get("schedule", 1.0)
    rising = level * (1 - 0.5 ** np.arange(1, 11))
    shaken = rising + noise * np.random.default_rng(seed).normal(size=10)
    time = pace * np.arange(1, 11)
    return {
        "settings": chosen,
        "seed": seed,
        "rounds": list(range(16, 176, 16)),
        "accuracy": shaken.tolist(),
        "pruned_accuracy": rising.tolist(),
        "uplink_bits": (1e6 * time).tolist(),
        "downlink_bits": (1e6 * time).tolist(),
        "seconds": time.tolist(),
        "joules": time.tolist(),
        "slow_seconds": (time * (1 + 9 * (chosen["bits"] == 32))).tolist(),
        "steady_seconds": (time**2).tolist(),
        "updates_up_bits": 8e6,
    }


def points():
    """The settings of every run, each once."""
    found = (cell.labels["settings"] for cell in cells(SHORT) if not cell.config.seed)
    return list(found)


def rows_where(level, pace, noise=0.0):
    """Every run of the study, its level and pace by its settings and seed."""
    return [
        row(one, seed, level=level(one, seed), pace=pace(one, seed), noise=noise)
        for one in points()
        for seed in range(3)
    ]


def verdict_of(rows):
    return {claim.text: claim.verdict for claim in claims(rows)}


def test_claims_that_hold():
    found = verdict_of(
        rows_where(
            lambda one, seed: 0.5 + 0.01 * seed - one["cut"] * one["dropout_rate"] / 10,
            lambda one, seed: (1 + one["cut"]) * (0.5 if one["bits"] == 8 else 1.0),
        )
    )
    sooner = "pruned, 8 bits: an accuracy sooner"
    robust = "cuts in the first half lose less when half of the activations are dropped"
    assert found[sooner] == found[f"{sooner}, the pruned model"] == "holds"
    assert found["pruned, 8 bits: ends no lower"] == "holds"
    assert found[robust] == "holds"


def test_claims_that_do_not():
    found = verdict_of(
        rows_where(
            lambda one, seed: 0.5 + 0.01 * seed - 0.3 * one["prune_ratio"],
            lambda one, seed: 1 + one["prune_ratio"] + 0.01 * seed,
        )
    )
    assert found["pruned, 8 bits: an accuracy sooner"] == "does not hold"
    assert found["pruned, 8 bits: ends no lower"] == "does not hold"
    # A tenth of the band costs the plain scheme ten times the time, and 8 bits none.
    slower = "pruned, 8 bits: an accuracy sooner in a tenth of the band"
    assert found[slower] == "holds"


def test_sooner_than_the_whole_run_need_not_be_sooner_than_a_shorter_one():
    """Here shorter runs come to the same level: one of 0.5 is sooner than 0.7."""
    found = verdict_of(
        rows_where(
            lambda one, seed: 0.5 + 0.01 * seed,
            lambda one, seed: (0.7 if one["bits"] == 8 else 1.0) + 0.01 * seed,
        )
    )
    sooner = "pruned, 8 bits: an accuracy sooner"
    assert found[sooner] == "holds"
    assert found[f"{sooner}, than on any schedule"] == "does not hold"


def test_a_schedule_that_never_comes_there_is_none():
    found = verdict_of(
        rows_where(
            lambda one, seed: 0.5 if "schedule" not in one else 0.2,
            lambda one, seed: (0.7 if one["bits"] == 8 else 1.0) + 0.01 * seed,
        )
    )
    assert found["pruned, 8 bits: an accuracy sooner, than on any schedule"] == "holds"


def test_a_schedule_that_a_seed_lacks_is_compared_with_none():
    """Here that of half the rounds is sooner than 0.7, and of one seed only."""
    rows = rows_where(
        lambda one, seed: 0.5 + 0.01 * seed,
        lambda one, seed: (0.7 if one["bits"] == 8 else 1.0) + 0.01 * seed,
    )
    text = "pruned, 8 bits: an accuracy sooner, than on any schedule"

    def without(*shares):
        return [r for r in rows if r["settings"].get("schedule") not in shares]

    one = [r for r in rows if r["settings"].get("schedule") == 0.5 and not r["seed"]]
    assert verdict_of(without(0.5, 0.65) + one)[text] == "holds"
    assert verdict_of(without(0.65, 0.8))[text] == "does not hold"
    assert text not in verdict_of(without(0.5, 0.65, 0.8) + one)


def test_a_cost_that_a_row_lacks_decides_nothing(tmp_path):
    rows = rows_where(lambda one, seed: 0.5 + 0.01 * seed, lambda one, seed: 1.0)
    text = "everything: an accuracy sooner without fading"
    assert text in verdict_of(rows)
    del rows[0]["steady_seconds"]
    assert text not in verdict_of(rows)
    assert "everything: an accuracy sooner" in verdict_of(rows)
    # Its table leaves that cost out, too.
    del rows[0]["slow_seconds"]
    write_reading(SHORT, rows, tmp_path, "study")
    (plain,) = re.findall(
        r"\n\| plain \| (.*) \|\n", (tmp_path / "study.md").read_text()
    )
    assert plain.split(" | ")[-2] == ""


def test_a_shorter_schedule_ends_at_a_rate_of_0_with_as_many_evaluations():
    for share in (0.5, 0.65, 0.8):
        run = config_of(SHORT, settings({"schedule": share}), 0)
        assert run.rounds == run.method.cosine_rounds == share * SHORT.rounds
        assert run.rounds % run.eval_every == 0 and run.rounds // run.eval_every == 12


def test_seeds_that_disagree_leave_it_open():
    found = verdict_of(
        rows_where(
            lambda one, seed: 0.5,
            lambda one, seed: 1 + (seed - 1) * one["prune_ratio"],
        )
    )
    assert found["pruned, 8 bits: an accuracy sooner"] == "open"


def test_costs_are_taken_where_the_target_is_first_reached():
    rows = rows_where(lambda one, seed: 0.4 + 0.1 * seed, lambda one, seed: 2.0)
    best = targets(rows, {}, {"bits": 8})
    np.testing.assert_allclose(best, [max(r["accuracy"]) for r in rows[:3]])
    np.testing.assert_allclose(until(rows, {}, best, "seconds"), [20.0] * 3)
    np.testing.assert_allclose(until(rows, {}, 0.51 * best, "seconds"), [4.0] * 3)
    never = np.array([9.0] * 3)
    np.testing.assert_allclose(until(rows, {}, never, "seconds"), [20.0] * 3)
    assert len(finals(rows, {})) == 3


def test_everything_is_written(tmp_path):
    rows = rows_where(lambda one, seed: 0.5, lambda one, seed: 1.0, noise=0.01)
    write_reading(SHORT, rows, tmp_path, "study")
    text = (tmp_path / "study.md").read_text()
    assert verdicts(claims(rows)) in text and "nan" not in text
    for name in ("courses", "choices"):
        assert "</svg>" in (tmp_path / f"study_{name}.svg").read_text()


def test_every_point_is_a_run_of_its_own():
    configs = [config_of(SHORT, one, 0) for one in points()]
    assert len({repr(config) for config in configs}) == len(configs)
    assert config_of(SHORT, settings({"cut": 3}), 1).model.cut == 8


def test_what_is_finished_is_shown_for_the_seeds_that_all_have(tmp_path):
    """Two seeds of the plain scheme at two cuts, and one of 8 bits."""
    plain, coded, deeper = (settings(c) for c in ({}, {"bits": 8}, {"cut": 1}))
    rows = [
        row(one, seed, level=0.5 + 0.1 * seed, pace=1.0)
        for one, seed in (
            *((plain, 0), (plain, 1), (coded, 0)),
            *((deeper, 0), (deeper, 1)),
        )
    ]
    write_reading(SHORT, rows, tmp_path, "study")
    text = (tmp_path / "study.md").read_text()
    techniques, cuts = (
        text.partition(f"## {name}")[2].partition("##")[0]
        for name in ("Each technique", "Cuts")
    )
    assert "| plain | 0.499 |" in techniques and "| 8 bits | 0.499 |" in techniques
    assert "pruned, 8 bits |" not in text and "nan" not in text
    assert "| 2 | plain | 0.549 ±" in cuts and "| 4 | plain | 0.549 ±" in cuts
    # The plain scheme alone is in a table already.
    assert "Share of filters" not in text


def test_what_one_seed_shows_has_no_verdict():
    rows = [row(one, 0, level=0.5, pace=1.0) for one in points()]
    assert {claim.verdict for claim in claims(rows)} == {"not measured"}


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_cell_has_a_folder_of_its_own(scale):
    names = [cell.folder for cell in cells(scale)]
    assert {cell.folder for cell in cells(scale, ["ratios"])} <= set(names)
    assert set(QUESTIONS) == {
        *("techniques", "cuts", "ratios", "intervals", "readings", "compressors"),
        "schedules",
    }
    assert len(set(names)) == len(names) == len(points()) * scale.seeds
    assert "plain-0" in names and not any("/" in name for name in names)
