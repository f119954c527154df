"""Help: what is there, in an order and a width that people can read."""

import re
import subprocess
import sys

import pytest
from rich.console import Console

from fedjax_sl.cli import main, plan
from fedjax_sl.cli.form import form_of
from fedjax_sl.cli.line import FIRST, SUMMARIES
from fedjax_sl.cli.plan import PlanCommand
from fedjax_sl.cli.run import RunCommand
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.methods import presets
from tests.commands import PATIENCE, refused


@pytest.fixture(autouse=True)
def without_jax(monkeypatch):
    monkeypatch.setattr(main, "_prepare_jax", lambda: None)


def shown(capsys, *arguments, help_flag="--help"):
    """The help that a command line shows."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main.main([*arguments, help_flag])
    assert stop.value.code == 0
    said = capsys.readouterr()
    assert not said.err
    return said.out


def lines_of(text):
    """Lines without the frames that some terminals have."""
    return [line.strip("│╭╮╰╯─ ") for line in text.splitlines()]


COMMAND_LINES = [
    [],
    *([name] for name in SUMMARIES),
    *([name, method] for name in ("run", "sweep") for method in presets()),
    *(["cost", method] for method in ("fedsl", "fedlpq")),
    ["suggest", "--bound", "1"],
]


@pytest.mark.parametrize("arguments", COMMAND_LINES, ids=" ".join)
def test_every_command_explains_itself_in_80_columns(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, *arguments)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "fedsl"]], ids=" ".join)
def test_help_has_a_short_name(arguments, capsys):
    text = shown(capsys, *arguments)
    assert shown(capsys, *arguments, help_flag="-h") == text


def test_every_command_and_method_has_a_line(capsys):
    lines = lines_of(shown(capsys))
    for name in SUMMARIES:
        assert sum(bool(re.match(rf"• {name} +\w", line)) for line in lines) == 1
    for name, (_, preset) in presets().items():
        found = [line for line in lines if line.split(" ")[0] == name]
        assert [line.split(maxsplit=1)[1] for line in found] == [preset.help]


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize("method", ["fedsl", "fedlpq"])
def test_what_people_change_first_is_shown_first(command, method, capsys):
    lines = lines_of(shown(capsys, command, method))
    titles = [line for line in lines if re.fullmatch(r"(\w+ )?options", line)]
    assert titles[:2] == ["options", "run options"]
    assert {f"{name} options" for name in ("data", "method", "model")} < set(titles)

    def flags(lines):
        return [m[1] for line in lines if (m := re.match(r"--([a-z][\w.-]+)", line))]

    first = [flag for flag in FIRST if flag in flags(lines)]
    assert len(first) > 9
    assert flags(lines[: lines.index("run options")])[: len(first)] == first


def test_a_command_with_methods_shows_them_and_those_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = lines_of(shown(capsys, "run"))
    assert any(re.fullmatch(r"--rounds +T, >= 1\.", line) for line in lines)
    assert any(re.match("• fedlpq +layer-wise", line) for line in lines)
    assert len(lines) < 60


@pytest.mark.parametrize("columns", [80, 120])
def test_texts_wrap_as_the_terminal_does(columns, capsys, monkeypatch):
    """Where a line of the source ends, no line of the help need end."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = lines_of(shown(capsys, "run", "fedsl"))
    text = " ".join(" ".join(lines).split())
    assert "the channel's deadline with nothing pruned" in text
    form = form_of(RunCommand(run=FedSLRun()), "fedsl", FIRST)
    assert all(option.help for option in form.part().options())
    assert not any("\n" in option.help for option in form.part().options())


def test_suggest_by_bound_is_an_alias_of_plan(monkeypatch):
    seen = []

    def choices(options, _):
        seen.append(options)
        raise InterruptedError

    monkeypatch.setattr(plan, "_choices", choices)
    rest = ["--by", "joules", "--cuts", "1", "2"]
    for words in (
        ["plan", "--target", "5"],
        ["plan", "--bound", "5"],
        ["suggest", "--bound", "5"],
        ["suggest", "--bound=5"],
    ):
        with pytest.raises(InterruptedError):
            main.execute([*words, *rest], Console(quiet=True))
    expected = PlanCommand(target=5.0, by="joules", cuts=(1, 2))
    assert seen == [expected] * 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "unknown command 'rnu': expected one of ('run', 'sweep',"),
        (["--rounds", "5"], "Unrecognized options: --rounds, 5"),
        (["run", "fedslq"], "unknown method 'fedslq': expected one of ('fedsl',"),
        (["sweep", "fedslq"], "unknown method 'fedslq': expected one of ('fedsl',"),
        (["cost", "fedavg"], "unknown method 'fedavg': expected one of ('fedsl',"),
        (["cost"], "Expected one of {fedsl, fedlpq}"),
        (["run", "fedslq"], "'niid-bench-dir05'); did you mean 'fedsl'; see"),
        (["rnu"], "did you mean 'run'; see"),
        (["cost", "nothing"], "('fedsl', 'fedlpq'); see"),
        (["run", "--model.name", "resnet81"], "'mlp'); did you mean 'resnet18'; see"),
        (["run", "--data.partition", "odd"], "'natural'); see"),
        (["run", "--metod", "fedsl"], "did you mean --method.…; see"),
        (["run", "--sed", "3"], "did you mean --seed; see"),
        (["run", "--colour", "3"], "Unrecognized options: --colour, 3; see"),
        (["run", "--model.widht", "1"], "did you mean --model.width"),
        (["sweep", "--sedes", "3"], "did you mean --seeds"),
        (["run", "fedavg", "--method.bit", "4"], "mean --method.bits, --method.grad-"),
        (
            ["run", "fedavg", "--model.cut", "2"],
            "error: --model.cut is an option of other methods, not of this one; see "
            "fedjax-sl run fedavg --help.",
        ),
        (["run", "fedavg", "--model.cut=2"], "--model.cut=2 is an option of other"),
        (
            ["run", "fedavg", "--method.bitz", "4", "--model.cut", "2"],
            "error: Unrecognized options: --method.bitz 4 --model.cut 2; did you mean "
            "--method.bits, ",
        ),
        (["run", "--model.tial", "2"], "see fedjax-sl run --help."),
        (["compare", "x", "--taregt", "0.5"], "did you mean --target"),
        (["privacy", "x", "--detla", "0.5"], "did you mean --delta"),
        (["cost", "fedsl", "--dephts", "1"], "did you mean --depth"),
        (["run", "--config"], "Missing value for argument '--config'"),
        (["suggest", "--bound"], "Missing value for argument '--bound'"),
        (["suggest", "--bound", "few"], "--target"),
        (["plan"], "Missing from fedjax-sl plan: --bound FLOAT, --target FLOAT"),
        (["plan", "--target", "-1"], "target=-1.0: expected a number > 0"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("columns", ["60", "200"])
def test_what_is_unknown_or_missing_is_one_sentence(
    arguments, said, columns, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", columns)
    assert said in refused(arguments, capsys)


def test_a_value_that_is_a_methods_name_is_no_method(monkeypatch):
    """The first of the two passes does not know which options take values."""
    monkeypatch.setattr("fedjax_sl.cli.run.prepare", lambda config: 1 / 0)
    seen = []
    monkeypatch.setattr(
        "fedjax_sl.cli.run._check_folder",
        lambda folder, command: seen.append(command.run.algorithm),
    )
    for words in (["--init-from", "fedlpq"], ["fedlpq", "--init-from", "fedsl"]):
        with pytest.raises(ZeroDivisionError):
            main.execute(["run", *words], Console(quiet=True))
    assert seen == ["fedsl", "fedlpq"]


def test_a_reader_that_has_enough_ends_it_quietly():
    script = f"{sys.executable} -m fedjax_sl run fedsl --help | head -n 1"
    shown = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert shown.stdout.startswith("usage: fedjax-sl run") and not shown.stderr
