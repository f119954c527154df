"""With no options every division of labour learns the digits."""

import json

import pytest

from fedjax_sl.cli.main import main


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["--method.server-update", "sequential"], ["--method.client-update", "relay"]],
    ids=["sequential", "relay"],
)
def test_clients_one_after_another_learn_by_default(tmp_path, options):
    """Ten of them; at the rate that is right for side by side none of it is learned."""
    folder = tmp_path / "run"
    small = ["--model.width", "0.125", "--model.cut", "2", "--method.bits", "32"]
    main(
        ["run", "fedsl", *small, *options, "--rounds", "20", "--eval-every", "20"]
        + ["--folder", str(folder)]
    )
    config = json.loads((folder / "config.json").read_text())["method"]
    assert config["learning_rate"] is not None
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best_test_accuracy"] > 0.3
