"""What is not among the choices is refused, wherever there are choices."""

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Literal, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

import fedjax_sl
from fedjax_sl.checks import check_integer, check_number
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.reports.panels import Picture


MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(fedjax_sl.__path__, "fedjax_sl.")
]
BOGUS = "no such thing"
GIVEN = {
    "tree": {"block": {"kernel": np.ones(2, np.float32)}},
    "like": {"block": {"kernel": np.ones(2, np.float32)}},
    "x": np.ones((2, 2), np.float32),
    "displacement": np.ones(2),
    "num_clients": 2,
}
"""Arguments of functions that look at them before their choices; others are None."""
LAZY = {"Image": Image, "Picture": Picture}
"""Names of annotations that modules import for a type checker alone."""


def has_choices(hint):
    return get_origin(hint) is Literal or any(map(has_choices, get_args(hint)))


def defined(of):
    """What the package's modules define and give a public name."""
    for module in MODULES:
        for name, found in vars(module).items():
            here = getattr(found, "__module__", None) == module.__name__
            if here and of(found) and not name.startswith("_"):
                yield found


def choices_of_functions():
    for function in defined(inspect.isfunction):
        for name, hint in get_type_hints(function, localns=LAZY).items():
            if name != "return" and has_choices(hint):
                yield pytest.param(function, name, id=f"{function.__name__}-{name}")


def is_config(found):
    """Dataclasses that a program constructs; tyro checks the options of commands."""
    room = found.__module__.split(".")[1]
    return (
        dataclasses.is_dataclass(found)
        and not issubclass(found, nn.Module)
        and room not in ("records", "runs", "cli")
        and not found.__module__.endswith(".cost_table")
    )


def fields_of_configs():
    for kind in defined(lambda found: inspect.isclass(found) and is_config(found)):
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            checked = has_choices(hint) or hint is bool or hint in (int, float)
            if checked and not abstract(kind):
                yield pytest.param(kind, field.name, id=f"{kind.__name__}-{field.name}")


def abstract(kind):
    """Whether it has fields that must be given, and so no use by itself."""
    missing = dataclasses.MISSING
    return any(
        f.default is missing and f.default_factory is missing
        for f in dataclasses.fields(kind)
    )


@pytest.mark.parametrize("function, name", list(choices_of_functions()))
def test_functions_refuse_what_is_no_choice(function, name):
    required = {
        other: GIVEN.get(other)
        for other, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_KEYWORD
    }
    with pytest.raises(ValueError, match=f"='{BOGUS}': expected one of"):
        function(**{**required, name: BOGUS})


@pytest.mark.parametrize("kind, name", list(fields_of_configs()))
def test_configurations_refuse_what_is_no_choice(kind, name):
    with pytest.raises(ValueError, match=f"{name}='{BOGUS}': expected"):
        kind(**{name: BOGUS})


@pytest.mark.parametrize("name", ["bits", "prune_ratio", "dropout_rate"])
def test_classes_of_devices_are_one_at_least(name):
    with pytest.raises(ValueError, match=rf"{name}=\(\): expected a value for each"):
        FedSLConfig(**{name: ()})


def test_there_are_choices_to_check():
    functions = {f.values[0].__name__ for f in choices_of_functions()}
    assert {"quantize", "keep_mask", "encode", "split_vgg", "unit_of"} <= functions
    configs = {(f.values[0].__name__, f.values[1]) for f in fields_of_configs()}
    assert ("FedSLConfig", "server_update") in configs
    assert ("FedLPQConfig", "optimizer") in configs
    assert ("FedSLRun", "mapping") in configs and ("Channel", "share") in configs


@pytest.mark.parametrize(
    "change, named",
    [
        ({"server_update": "v1"}, r"server_update='v1': expected one of \('merged', "),
        ({"optimizer": "adamw"}, r"optimizer='adamw': expected one of \('sgd', 'adam'"),
        ({"restore": 1}, "restore=1: expected True or False"),
        ({"cohort_size": 2.0}, "cohort_size=2.0: expected an integer"),
        ({"cohort_size": jnp.int32(2)}, "cohort_size=.*: expected an integer"),
        ({"interval": 2.5}, "interval=2.5: expected an integer"),
        ({"learning_rate": "0.1"}, "learning_rate='0.1': expected a number"),
        ({"clip_norm": True}, "clip_norm=True: expected a number or None"),
        ({"prune_ratio": (0.1, "x")}, "prune_ratio=.*: expected a number or a tuple"),
        ({"bits": np.int64(1)}, "bits=1: expected 2 to 32 bits"),
        ({"dropout_rate": np.float32(1.5)}, r"dropout_rate=1.5: expected .*\[0, 1\)"),
    ],
)
def test_plain_values_of_the_wrong_kind_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        FedSLConfig(**change)


def test_what_may_be_swept_passes():
    FedSLConfig(
        bits=jnp.array([4, 8]), learning_rate=np.float32(0.1), interval=jnp.int32(2)
    )
    FedLPQConfig(bits=(4, np.int64(8)), keep_probability=jnp.float32(0.5))
    jax.eval_shape(lambda rate: FedSLConfig(learning_rate=rate).learning_rate, 0.1)


@pytest.mark.parametrize("config", [FedSLConfig(bits=(4, 8)), FedLPQConfig()])
def test_jax_may_put_anything_in_place_of_numbers(config):
    """Shapes, axes and flags are no settings, and are not refused as such."""
    shapes = jax.tree.map(jnp.shape, config)
    assert shapes.momentum == ()
    same = jax.tree.map(lambda a, b: a == b, config, config)
    assert all(jax.tree.leaves(same)) and type(same) is type(config)
    again = jax.tree.map(lambda x: x, config)
    assert again == config
    axes = jax.tree.map(lambda _: 0, config)
    twice = jax.tree.map(lambda x: jnp.array([x, x]), config)
    found = jax.vmap(lambda one: one.momentum, in_axes=(axes,))(twice)
    assert found.shape == (2,)
    paths, _ = jax.tree_util.tree_flatten_with_path(config)
    assert ".momentum" in [jax.tree_util.keystr(path) for path, _ in paths]


def test_static_fields_are_structure():
    one, other = (FedSLConfig(granularity=g) for g in ("filter", "weight"))
    structure = jax.tree.structure
    assert structure(one) != structure(other)
    assert structure(one) == structure(FedSLConfig(momentum=0.5))


@pytest.mark.parametrize("value", [0, 11, 4.0, "4", None, True])
def test_integers_are_checked_by_kind_and_range(value):
    with pytest.raises(ValueError, match=f"bits={value!r}: expected"):
        check_integer("bits", value, 1, 10)
    check_integer("bits", np.int64(4), 1, 10)
    check_integer("bits", jnp.int32(99), 1, 10)


@pytest.mark.parametrize("value", [float("nan"), -0.1, "x", None, True])
def test_numbers_are_checked_by_kind_and_range(value):
    with pytest.raises(ValueError, match=f"rate={value!r}: expected a number >= 0"):
        check_number("rate", value, lambda v: v >= 0, ">= 0")
    check_number("rate", np.float32(0.5), lambda v: v >= 0, ">= 0")
    check_number("rate", jnp.float32(-1), lambda v: v >= 0, ">= 0")
