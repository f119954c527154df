"""The registry of methods: those of this package, and those of other packages.

Another package registers a method by an entry point of the group `fedjax_sl.methods`
whose object is a `MethodSpec`; a program does it with `register`.
"""

from functools import cache
from importlib import metadata

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.custom import CUSTOM
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq.spec import FEDLPQ
from fedjax_sl.fedsl.spec import FEDSL
from fedjax_sl.method_spec import MethodSpec, Preset, Theory


ENTRY_POINTS = "fedjax_sl.methods"

_registered: dict[str, MethodSpec] = {}


def register(spec: MethodSpec) -> None:
    """Makes a method known to this process.

    Raises:
      ValueError: if there is another one of its name, or of a name of its presets.
    """
    name = spec.config.algorithm
    if methods().get(name, spec) != spec:
        raise InputError(f"method {name!r}: expected a name that no other method has.")
    for preset in spec.presets:
        if preset in presets() and presets()[preset][0] != spec:
            raise InputError(
                f"preset {preset!r}: expected a name that no other method has."
            )
    _registered[name] = spec


@cache
def installed() -> tuple[MethodSpec, ...]:
    """Those that other packages bring.

    Raises:
      ValueError: if one cannot be loaded, naming its package.
    """
    found = []
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            spec = entry.load()
        except Exception as error:
            raise InputError(
                f"method {entry.name!r} of {entry.value}: cannot be loaded "
                f"({type(error).__name__}: {error})."
            ) from error
        if not isinstance(spec, MethodSpec):
            raise InputError(
                f"method {entry.name!r} of {entry.value}: expected a MethodSpec, found "
                f"{type(spec).__name__}."
            )
        found.append(spec)
    return tuple(found)


def methods() -> dict[str, MethodSpec]:
    """Every method by its name, the first one the usual one."""
    known = {
        spec.config.algorithm: spec for spec in (FEDSL, FEDLPQ, CUSTOM, *installed())
    }
    return known | _registered


def presets() -> dict[str, tuple[MethodSpec, Preset]]:
    """Every name on the command line, with its method."""
    return {
        name: (spec, preset)
        for spec in methods().values()
        for name, preset in spec.presets.items()
    }


def usual_of(config: RunConfig) -> RunConfig:
    """A configuration of its method with nothing given."""
    return next(iter(spec_of(config).presets.values())).run


def theory_of(config: RunConfig) -> Theory:
    """How a configuration enters the convergence bound.

    Raises:
      ValueError: if its method has none.
    """
    theory = spec_of(config).theory
    if theory is None:
        able = tuple(name for name, spec in methods().items() if spec.theory)
        raise InputError(
            f"a run of {config.algorithm}: expected a method that has a convergence "
            f"bound, one of {able}."
        )
    return theory


def spec_of(config: RunConfig) -> MethodSpec:
    """The method of a configuration."""
    return methods()[config.algorithm]
