"""The registry of methods, of this package and of others.

Another package registers a method by an entry point of the group `fedjax_sl.methods`
whose object is a `MethodSpec`; a program does it with `register`.
"""

from collections.abc import Iterable
from functools import cache
from importlib import metadata

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.custom import CUSTOM
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq.spec import FEDLPQ
from fedjax_sl.fedsl.spec import FEDSL
from fedjax_sl.method_spec import MethodSpec, Preset, Theory


ENTRY_POINTS = "fedjax_sl.methods"

BUILT_IN = (FEDSL, FEDLPQ, CUSTOM)

_registered: dict[str, MethodSpec] = {}


def register(spec: MethodSpec) -> None:
    """Registers a method in this process.

    Raises:
      ValueError: if another method has its name or the name of one of its presets.
    """
    name = spec.config.algorithm
    # The same one again is no clash.
    if methods().get(name, spec) != spec:
        raise InputError(f"method {name!r}: expected a name that no other method has.")
    # The command line tells presets apart by name alone, whatever their method.
    for preset in spec.presets:
        if preset in presets() and presets()[preset][0] != spec:
            raise InputError(
                f"preset {preset!r}: expected a name that no other method has."
            )
    _registered[name] = spec


def _names(specs: Iterable[MethodSpec]) -> set[str]:
    """The names of methods and of their presets."""
    return {name for spec in specs for name in (spec.config.algorithm, *spec.presets)}


# Cached: every look-up of a method asks for them.
@cache
def installed() -> tuple[MethodSpec, ...]:
    """Loads the methods of other installed packages.

    Raises:
      ValueError: if one cannot be loaded; the message names its package.
    """
    found: list[MethodSpec] = []
    taken = _names(BUILT_IN)
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            spec = entry.load()
        # Importing another package's code can fail in any way.
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
        if clash := taken & _names([spec]):
            raise InputError(
                f"method {entry.name!r} of {entry.value}: {sorted(clash)[0]!r} is the "
                "name of another method or preset."
            )
        taken |= _names([spec])
        found.append(spec)
    return tuple(found)


def methods() -> dict[str, MethodSpec]:
    """Returns every method by name, the default one first."""
    # CUSTOM has no preset: it is here so that the config.json of its runs is read.
    known = {spec.config.algorithm: spec for spec in (*BUILT_IN, *installed())}
    return known | _registered


def presets() -> dict[str, tuple[MethodSpec, Preset]]:
    """Returns every preset by name, with its method."""
    return {
        name: (spec, preset)
        for spec in methods().values()
        for name, preset in spec.presets.items()
    }


def usual_of(config: RunConfig) -> RunConfig:
    """Returns the default configuration of the method of a configuration."""
    return next(iter(spec_of(config).presets.values())).run


def theory_of(config: RunConfig) -> Theory:
    """Returns how a configuration enters the convergence bound.

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
    """Returns the method of a configuration."""
    return methods()[config.algorithm]
