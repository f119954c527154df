"""A run whose residuals are kept on the host is the run with them on the device."""

import pytest

from fedjax_sl.cli.main import main
from tests.commands import refused
from tests.runs.test_resume import SMALL, TINY, arrays_of, assert_same_run


FEEDBACK = ["--method.updates.kind", "sign", "--method.updates.feedback", "error"]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "rounds"), [(TINY, 8), (SMALL, 4)])
def test_it_is_the_same_run_and_resumed_in_either(run, rounds, tmp_path):
    here, there, parts = (tmp_path / name for name in ("here", "there", "parts"))
    asked, host = ["run", *run, *FEEDBACK], ["--residuals", "host"]
    main([*asked, "--folder", str(here), "--rounds", str(rounds)])
    main([*asked, *host, "--folder", str(there), "--rounds", str(rounds)])
    assert_same_run(here, there)
    arrays = arrays_of(there)[1]
    assert any(arrays[name].any() for name in arrays if name.startswith("residual/"))
    main([*asked, "--folder", str(parts), "--rounds", str(rounds // 2)])
    longer = ["--folder", str(parts), "--rounds", str(rounds)]
    main(["run", "--resume", *host, *longer])
    assert_same_run(here, parts)


def test_a_sweep_refuses_it(capsys, tmp_path):
    sweep = ["sweep", *TINY[:-2], *FEEDBACK, "--residuals", "host", "--seeds", "2"]
    said = refused([*sweep, "--folder", tmp_path / "s"], capsys)
    assert "residuals='host': expected 'device' in a sweep" in said
