"""The settings that the study of FedSL compares: as published, and smaller for a CPU.

The smaller network is a VGG-11 with a quarter of the channels. Its 8 convolutions are
cut at the same fractions as the 16 of the published VGG-19. It is trained until it
converges, or reduced to a few rounds.
"""

from dataclasses import dataclass, replace
from typing import Any

from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.presets import RECIPE, ROUNDS
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig


@dataclass(frozen=True)
class Scale:
    """The size of the study.

    Attributes:
      name: name of the results folder.
      depth, width: depth and width of the VGG.
      cuts: L_c, a quarter, a half, three quarters and all of its convolutions.
      rounds, eval_every, batch_size: T, rounds between evaluations, B.
      recipe: settings of the method that all runs share.
      train_examples, test_examples: number of images used; None for all.
      seeds: runs of each setting.
    """

    name: str
    depth: Any
    width: float
    cuts: tuple[int, int, int, int]
    rounds: int
    eval_every: int
    batch_size: int
    recipe: dict[str, Any]
    train_examples: int | None
    test_examples: int | None
    seeds: int


REDUCED = Scale(
    name="reduced",
    depth=11,
    width=0.25,
    cuts=(2, 4, 6, 8),
    rounds=160,
    eval_every=16,
    batch_size=16,
    # As these runs were: scores from a pass of their own, all channels sent.
    recipe={"learning_rate": 0.02, "scoring": "pass", "thin_cut": False},
    train_examples=None,
    test_examples=1000,
    seeds=3,
)
CONVERGED = replace(
    REDUCED,
    name="converged",
    rounds=ROUNDS,
    eval_every=780,
    recipe=RECIPE,
    test_examples=None,
)
FULL = Scale(
    name="full",
    depth=19,
    width=1.0,
    cuts=(4, 8, 12, 16),
    rounds=20000,
    eval_every=500,
    batch_size=64,
    recipe=RECIPE | {"cosine_rounds": 20000},
    train_examples=None,
    test_examples=None,
    seeds=5,
)
SCALES = {scale.name: scale for scale in (REDUCED, CONVERGED, FULL)}

NOTHING = {
    "cut": 0,
    "prune_ratio": 0.0,
    "granularity": "filter",
    "bits": 32,
    "quantizer_error": None,
    "dropout_rate": 0.0,
    "interval": 5,
}
"""Plain split learning; `cut` is an index into the cuts of the scale."""

PRUNED = {"prune_ratio": 0.35}
CODED = {"bits": 8}
DROPPED = {"dropout_rate": 0.2}
EVERYTHING = PRUNED | CODED | DROPPED

TECHNIQUES = {
    "plain": {},
    "35 % pruned": PRUNED,
    "8 bits": CODED,
    "20 % dropped": DROPPED,
    "pruned, 8 bits": PRUNED | CODED,
    "everything": EVERYTHING,
}

CUTS = {
    (cut, name): {"cut": cut} | change
    for cut in range(4)
    for name, change in (
        ("plain", {}),
        ("50 % dropped", {"dropout_rate": 0.5}),
        ("everything", EVERYTHING),
    )
}

INTERVALS = {each: EVERYTHING | {"interval": each} for each in (1, 5, 10, 20)}

RATES = {
    (ratio, bits, rate): {"prune_ratio": ratio, "bits": bits, "dropout_rate": rate}
    for ratio in (0.35, 0.7)
    for bits in (4, 8)
    for rate in (0.2, 0.5)
}

GRANULARITIES = {
    (granularity, ratio): EVERYTHING
    | {"prune_ratio": ratio, "granularity": granularity}
    for granularity in ("filter", "weight")
    for ratio in (0.35, 0.7)
}

WIDTHS = {
    "32 bits": {},
    "8 bits": CODED,
    "4 bits": {"bits": 4},
    "error 1 %": CODED | {"quantizer_error": 0.01},
    "error 10 %": CODED | {"quantizer_error": 0.1},
}
"""Fixed bit widths, and adaptive ones of up to 8 bits for each tensor."""

QUESTIONS = (TECHNIQUES, WIDTHS, INTERVALS, GRANULARITIES, RATES, CUTS)


def settings(change: dict[str, Any]) -> dict[str, Any]:
    """Returns every varied option, with this change to plain split learning."""
    return NOTHING | change


def name_of(chosen: dict[str, Any]) -> str:
    """Names settings by what they change in plain split learning."""
    changes = [f"{key}={v}" for key, v in chosen.items() if v != NOTHING[key]]
    return "-".join(changes) or "plain"


def points() -> list[dict[str, Any]]:
    """Returns the settings of every question, each once."""
    found = [settings(change) for question in QUESTIONS for change in question.values()]
    return [point for index, point in enumerate(found) if point not in found[:index]]


def config_of(scale: Scale, chosen: dict[str, Any], seed: int) -> FedSLRun:
    """Returns the run of a seed with these settings."""
    varied = {name: value for name, value in chosen.items() if name != "cut"}
    cut = scale.cuts[chosen["cut"]]
    return FedSLRun(
        data=DataConfig(
            name="cifar10",
            train_examples=scale.train_examples,
            test_examples=scale.test_examples,
        ),
        model=ModelConfig(depth=scale.depth, width=scale.width, cut=cut),
        method=FedSLConfig(**scale.recipe | varied),
        rounds=scale.rounds,
        eval_every=scale.eval_every,
        batch_size=scale.batch_size,
        seed=seed,
    )
