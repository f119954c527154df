"""The options of FedSL whose pairs are compared, and what each stands for."""

from typing import Any

from fedjax_sl.fedsl import FedSLConfig


CLIENTS, BATCH, PERIODS = 3, 4, 3
"""K, B, and after how many periods everything repeats."""

AXES = {
    "norm": ("group", "batch", "none"),
    "cut": (1, 2, 3),
    "granularity": ("filter", "weight"),
    "importance": ("taylor", "running taylor", "magnitude", "random"),
    "prune_scope": ("layer", "global"),
    "mask_scope": ("per_client", "common"),
    "prune_shape": ("cubic", "linear", "constant"),
    "prune_ratio": ("one", "by class"),
    "restore": (True, False),
    "average_over": ("all", "keepers"),
    "acting": ("together", "server in turn", "relay"),
    "faults": ("none", "absent", "nan", "both", "all nan"),
    "optimizer": ("sgd", "momentum", "adam"),
    "interval": (1, 2),
    "client_weight": ("equal", "examples"),
    "rates": ("one", "server's own", "cosine"),
    "robust": ("none", "clip", "trim", "longest"),
}

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "prune_ratio": {
        "one": {"prune_ratio": 0.55},
        "by class": {"prune_ratio": (0.55, 0.3)},
    },
    "importance": {
        "taylor": {"importance": "taylor", "scoring": "pass"},
        "running taylor": {"importance": "taylor", "scoring": "running"},
        "magnitude": {"importance": "magnitude"},
        "random": {"importance": "random"},
    },
    "acting": {
        "together": {},
        "server in turn": {"server_update": "sequential"},
        "relay": {"server_update": "sequential", "client_update": "relay"},
    },
    "optimizer": {
        "sgd": {"optimizer": "sgd", "momentum": 0.0},
        "momentum": {"optimizer": "sgd", "momentum": 0.9},
        "adam": {"optimizer": "adam"},
    },
    "rates": {
        "one": {},
        "server's own": {"server_learning_rate": 0.03},
        "cosine": {"cosine_rounds": 8},
    },
    "robust": {
        "none": {},
        "clip": {"clip_norm": 0.1},
        "trim": {"trim": 0.34},
        "longest": {"max_update_norm": 0.25},
    },
}
"""What an option stands for, where it is not the value of a field of its name."""

MISSING = {
    "none": ([(), ()], [(), ()]),
    "absent": ([(1,), (0,)], [(), ()]),
    "nan": ([(), ()], [(2,), (1,)]),
    "both": ([(0,), (2,)], [(1,), (0,)]),
    "all nan": ([(), (0,)], [(), (0, 1, 2)]),
}
"""Places of those who are absent, and of those whose messages are not finite, in the
first two periods of each three."""


def config_of(row):
    """The configuration of a row; nothing is quantised or dropped."""
    fields: dict[str, Any] = dict(
        cohort_size=CLIENTS,
        bits=32,
        dropout_rate=0.0,
        learning_rate=0.05,
        prune_start=0,
        prune_end=3,
    )
    for axis, option in row.items():
        if axis in SETTINGS:
            fields |= SETTINGS[axis][option]
        elif axis not in ("norm", "cut", "faults"):
            fields[axis] = option
    return FedSLConfig(**fields)


def missing(row, period):
    """Places of the absent, and of those who send what is not finite."""
    if period % PERIODS == 2:
        return (), ()
    return tuple(found[period % PERIODS] for found in MISSING[row["faults"]])


def makes_sense(row):
    """Whether the options can be combined; a relay has no mean of updates."""
    if row["acting"] != "relay":
        return True
    return row["average_over"] == "all" and row["robust"] in ("none", "longest")
