"""What `import fedjax_sl` gives, and when it imports it."""

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fedjax_sl
from fedjax_sl import api
from fedjax_sl.cli.main import main
from fedjax_sl.extras import EXTRAS


def python(code):
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_its_version_is_that_of_the_project(capsys):
    project = Path(__file__).parents[1] / "pyproject.toml"
    version = tomllib.loads(project.read_text())["project"]["version"]
    assert fedjax_sl.__version__ == version
    main(["--version"])
    assert capsys.readouterr().out == f"fedjax-sl {version}\n"


@pytest.mark.parametrize("module", ["fedjax_sl", "fedjax_sl.__main__"])
def test_the_package_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in "
    code += "sys.modules} & {'jax', 'numpy', 'flax', 'orbax', 'scipy'})"
    assert python(code) == ""


@pytest.mark.slow
def test_the_public_names_import_nothing_that_few_of_them_need():
    """Half of the time went into these, 1.5 s."""
    late = {*("numba", "scipy", "PIL", "sklearn", "orbax"), *EXTRAS}
    code = (
        f"import sys, fedjax_sl; fedjax_sl.simulate; print({late} & {{*sys.modules}})"
    )
    assert python(code) == "set()"


def test_every_public_name_is_there():
    for name in api.__all__:
        assert callable(getattr(fedjax_sl, name)), name
    assert fedjax_sl.__all__ == api.__all__ and set(api.__all__) <= set(dir(fedjax_sl))
    with pytest.raises(AttributeError, match="no attribute 'fedprox'"):
        fedjax_sl.fedprox  # noqa: B018


PACKAGES = "import fedjax_sl.fedsl.config as x, fedjax_sl.fedlpq.config as y"
NAMES = "from fedjax_sl import fedlpq, fedsl, sweep"
CHECK = """
from fedjax_sl import api
assert x.FedSLConfig is api.FedSLConfig and y.FedLPQConfig is api.FedLPQConfig
for both in fedlpq, fedsl, sweep:
    name = both.__name__.partition(".")[2]
    assert callable(both) and getattr(both, name) is getattr(api, name)
"""


@pytest.mark.parametrize("first, second", [(PACKAGES, NAMES), (NAMES, PACKAGES)])
def test_what_is_called_like_its_module_is_both(first, second):
    """Whichever of them is imported first."""
    assert python(f"{first}\n{second}\n{CHECK}") == ""


def test_it_is_called_as_the_function():
    assert list(fedjax_sl.sweep(lambda x: 2 * x, [1, 2])) == [2, 4]
    with pytest.raises(ValueError, match="2 networks"):
        networks = [fedjax_sl.cifar_cnn()] * 2
        fedjax_sl.fedlpq(networks, fedjax_sl.FedLPQConfig(), num_clients=3)
    assert inspect.signature(fedjax_sl.fedlpq) == inspect.signature(api.fedlpq)
