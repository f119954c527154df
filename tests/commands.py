"""How commands are called in tests."""

import pytest

from fedjax_sl.cli.main import main


PATIENCE = 1000
"""Seconds after which a process hangs, however busy the machine is.

Less than `faulthandler_timeout`, so that it goes, and its test fails by itself.
"""


PERCEPTRON = ["--model.name", "mlp", "--model.width", "0.05"]
"""Of a run whose folder, signals or record is tested, not its network.

It is compiled and run in a third of the time that the published networks take.
"""


def refused(arguments, capsys):
    """The sentence that a command refuses with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said
