"""A shell completes commands, methods, options and choices."""

import shutil
import subprocess

import pytest

from fedjax_sl.cli import main
from fedjax_sl.cli.line import SUMMARIES
from tests.commands import refused


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash."""
    path = tmp_path_factory.mktemp("completion") / "script"
    with pytest.raises(SystemExit) as stop:
        main.main(["--tyro-write-completion", "bash", str(path)])
    assert not stop.value.code
    return path


ASK = """
source "$0"
COMP_WORDS=(fedjax-sl "$@")
COMP_CWORD=$#
function=$(complete -p fedjax-sl | sed -E 's/.*-F ([^ ]+).*/\\1/')
"$function" fedjax-sl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
echo "${COMPREPLY[@]}"
"""


@pytest.fixture
def completed(script):
    """What bash offers for the last of some words."""
    if not shutil.which("bash"):
        pytest.skip("NOT COMPLETED: no bash")

    def ask(*words):
        done = subprocess.run(
            ["bash", "-c", ASK, script, *words], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())

    return ask


@pytest.mark.slow
def test_commands_and_methods(completed):
    assert completed("") >= set(SUMMARIES)
    assert completed("s") == {"sweep", "suggest"}
    assert {"fedsl", "fedlpq"} <= completed("sweep", "f")


@pytest.mark.slow
def test_options_of_each_command(completed):
    assert completed("run", "fedsl", "--method.b") == {
        *("--method.bits", "--method.backward")
    }
    assert completed("compare", "--tar") == {"--target"}
    assert completed("list", "--data") == {"--data-dir"}


def test_choices(completed):
    assert completed("run", "fedsl", "--model.name", "r") == {"resnet18", "resnet34"}
    assert completed("run", "fedsl", "--data.partition", "d") == {"dirichlet"}


def test_what_is_no_shell_is_refused(capsys, tmp_path):
    said = refused(["--tyro-write-completion", "ksh", tmp_path / "script"], capsys)
    assert "expected one of ('bash', 'zsh', 'tcsh', 'fish') and a file" in said
    assert "expected one of" in refused(["--tyro-print-completion"], capsys)
