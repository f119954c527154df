"""The settings that the study of FedSL compares: as published, and smaller for a CPU.

The smaller network is a VGG-11 with a quarter of the channels. Its 8 convolutions are
cut at the same fractions as the 16 of the published VGG-19.
"""

from dataclasses import dataclass, replace
from typing import Any

from fedjax_sl.compressors.config import CompressorConfig
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
      cuts: L_c, two in the first half of its convolutions and two in the second; the
        first is the cut wherever cuts are not what is compared.
      rounds, eval_every, batch_size: T, rounds between evaluations, B.
      recipe: settings of the method that all runs share.
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
    seeds: int


# Plain and with everything on, these are the presets `splitfed-v1` and `cifar10-fedsl`.
CONVERGED = Scale(
    name="converged",
    depth=11,
    width=0.25,
    cuts=(4, 2, 6, 8),
    rounds=ROUNDS,
    eval_every=780,
    batch_size=16,
    recipe=RECIPE,
    seeds=3,
)
# Ten epochs, in which the learning rate falls to 0 as well.
SHORT = replace(
    CONVERGED,
    name="short",
    cuts=(2, 4, 6, 8),
    rounds=ROUNDS // 3,
    eval_every=260,
    recipe=RECIPE | {"warmup_rounds": 100, "cosine_rounds": ROUNDS // 3},
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
    seeds=5,
)
SCALES = {scale.name: scale for scale in (SHORT, CONVERGED, FULL)}

NOTHING = {
    "cut": 0,
    "prune_ratio": 0.0,
    "granularity": "filter",
    "scoring": "running",
    "thin_cut": True,
    "bits": 32,
    "dropout_rate": 0.0,
    "interval": 5,
    "activations": "float32",
    "upload_bits": None,
}
"""Plain split learning; `cut` is an index into the cuts of the scale."""

PRUNED = {"prune_ratio": 0.35}
CODED = {"bits": 8}
DROPPED = {"dropout_rate": 0.2}
EVERYTHING = PRUNED | CODED | DROPPED

TECHNIQUES = {
    "plain": {},
    "pruned, 8 bits": PRUNED | CODED,
    "everything": EVERYTHING,
    "35 % pruned": PRUNED,
    "8 bits": CODED,
    "20 % dropped": DROPPED,
}

CUTS = {
    (cut, name): {"cut": cut} | change
    for cut in range(4)
    for name, change in (("plain", {}), ("50 % dropped", {"dropout_rate": 0.5}))
}

RATIOS = {ratio: {"prune_ratio": ratio} for ratio in (0.0, 0.2, 0.35, 0.5, 0.7)}

INTERVALS = {each: EVERYTHING | {"interval": each} for each in (1, 5, 20)}

READINGS = {
    "as by default": EVERYTHING,
    "scores of a pass of their own": EVERYTHING | {"scoring": "pass"},
    "pruned channels sent": EVERYTHING | {"thin_cut": False},
    "single weights pruned": EVERYTHING | {"granularity": "weight"},
}
"""Choices that the paper leaves open."""

UNIFORM = CompressorConfig(kind="uniform", rounding="nearest", coder="rice")
TOP = replace(UNIFORM, kind="top_k", values="uniform", bits=4)

ACTIVATIONS = {
    "float32": CompressorConfig(),
    "uniform, 4 bits": replace(UNIFORM, bits=4),
    "uniform, 3 bits": replace(UNIFORM, bits=3),
    "uniform, 2 bits": replace(UNIFORM, bits=2),
    "EDEN, 2 bits": CompressorConfig(kind="eden", bits=2),
    "top 30 %, 4 bits": replace(TOP, keep=0.3),
    "top 10 %, 4 bits": replace(TOP, keep=0.1),
    "RandTopk 10 %, 4 bits": replace(TOP, kind="rand_top_k", keep=0.1),
}
"""Compressors of the activations at the cut, of 3 bits a value or fewer as coded."""

COMPRESSORS = {name: {"upload_bits": 8, "activations": name} for name in ACTIVATIONS}
"""Which of them costs how much accuracy; updates, the rest of the uplink, take 8
bits."""

SCHEDULES = {share: {"schedule": share} for share in (0.5, 0.65, 0.8)}
"""Plain split learning in so much of the rounds, in which its rate falls to 0: what is
sooner than the whole run need not be sooner than a shorter one."""

QUESTIONS: dict[str, dict[Any, dict[str, Any]]] = {
    "techniques": TECHNIQUES,
    "cuts": CUTS,
    "ratios": RATIOS,
    "intervals": INTERVALS,
    "readings": READINGS,
    "compressors": COMPRESSORS,
    "schedules": SCHEDULES,
}


def settings(change: dict[str, Any]) -> dict[str, Any]:
    """Returns every varied option, with this change to plain split learning."""
    return NOTHING | change


def name_of(chosen: dict[str, Any]) -> str:
    """Names settings by what they change in plain split learning."""
    changes = [f"{key}={v}" for key, v in chosen.items() if v != NOTHING.get(key)]
    return "-".join(changes) or "plain"


def config_of(scale: Scale, chosen: dict[str, Any], seed: int) -> FedSLRun:
    """Returns the run of a seed with these settings."""
    # Rows of whole runs do not have the share of a schedule.
    varied = {"schedule": 1.0} | chosen
    cut, share = scale.cuts[varied.pop("cut")], varied.pop("schedule")
    varied["activations"] = ACTIVATIONS[chosen["activations"]]
    recipe = scale.recipe | {"cosine_rounds": round(share * scale.rounds)}
    return FedSLRun(
        data=DataConfig(name="cifar10"),
        model=ModelConfig(depth=scale.depth, width=scale.width, cut=cut),
        method=FedSLConfig(**recipe | varied),
        rounds=round(share * scale.rounds),
        eval_every=round(share * scale.eval_every),
        batch_size=scale.batch_size,
        seed=seed,
    )
