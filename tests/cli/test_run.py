"""What `run` says before it begins."""

import pytest

from fedjax_sl.cli.main import main
from tests import dry
from tests.commands import refused


RUN = ["run", *dry.OPTIONS, "--rounds", "2", "--eval-every", "2"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without training."""
    dry.use(monkeypatch)


def said_of(tmp_path, capsys, *options):
    main([*RUN, "--folder", str(tmp_path / "run"), *options])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--data.alpha", "0.1"), "data.alpha=0.1"),
        (("--method.bits", "32", "--method.code", "gamma"), "method.code=gamma"),
        (("--method.momentum", "0.9"), "method.momentum=0.9"),
    ],
)
def test_an_option_without_effect_is_named(tmp_path, capsys, options, name):
    said = said_of(tmp_path, capsys, *options)
    assert f"warning: {name} has no effect" in said and said.count("warning") == 1


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--data.partition", "dirichlet", "--data.alpha", "5"),
        ("--method.optimizer", "sgd", "--method.momentum", "0.9"),
    ],
)
def test_options_with_an_effect_are_not(tmp_path, capsys, options):
    assert "warning" not in said_of(tmp_path, capsys, *options)


@pytest.mark.parametrize(
    ("bits", "clocks", "kinds"),
    [("4 6 8", "1e9 2e9", 6), ("4 6", "1e9 2e9", 0), ("4 6", "1e9", 0)],
)
def test_classes_that_do_not_fit_are_counted(tmp_path, capsys, bits, clocks, kinds):
    classes = ("--method.bits", *bits.split(), "--channel.clock-hz", *clocks.split())
    said = said_of(tmp_path, capsys, *classes)
    assert ("warning: classes are" in said) == bool(kinds)
    if kinds:
        assert "2 of channel.clock_hz, 3 of method.bits" in said
        assert f"makes {kinds} kinds of device" in said


def test_a_preset_s_own_options_are_not(tmp_path, capsys):
    """Nothing is pruned in it, and so its dropout is not drawn either."""
    main(["run", "fedavg", *RUN[2:], "--folder", str(tmp_path / "run")])
    assert "warning" not in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_file_says_was_not_given(tmp_path, capsys):
    """It has every field, those that were decided, too; options beside it are given."""
    said_of(tmp_path, capsys, "--data.alpha", "0.1")
    stored = ["--config", str(tmp_path / "run/config.json")]
    main(["run", *stored, "--folder", str(tmp_path / "again")])
    assert "warning" not in capsys.readouterr().out
    other = ["--data.alpha", "0.2", "--folder", str(tmp_path / "other")]
    main(["run", *stored, *other])
    assert "warning: data.alpha=0.2" in capsys.readouterr().out


def test_a_run_to_resume_that_is_not_there_is_begun_aloud(tmp_path, capsys):
    assert "holds no run yet: starting" in said_of(tmp_path, capsys, "--resume")
    assert "starting" not in said_of(tmp_path, capsys, "--resume")


def test_the_version_is_told(capsys):
    main(["--version"])
    name, version = capsys.readouterr().out.split()
    assert name == "fedjax-sl" and version[0].isdigit()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--config", "nowhere.json"], "nowhere.json: there is no such file"),
        (["bound", "--folder", "nowhere"], "nowhere: expected the folder of a run"),
        (
            ["run", "--method.warmup-rounds", "9", "--method.cosine-rounds", "5"],
            "cosine_rounds=5: expected more than warmup_rounds=9",
        ),
        (["run", "--data.alpha", "-1"], "alpha=-1"),
        (["run", "--rounds", "two"], "--rounds: expected an integer, not 'two'"),
        (["run", "--method.trim", "x"], "--method.trim: expected a number, not 'x'"),
        (
            ["run", "--method.bits", "8,4"],
            "expected an integer, or several with blanks between them, not '8,4'",
        ),
        (
            ["run", "--method.prune-ratio", "35%"],
            "--method.prune-ratio: expected a number, or several",
        ),
    ],
)
def test_a_refusal_names_what_is_wrong(capsys, words, said):
    assert said in refused(words, capsys)
