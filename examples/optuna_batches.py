"""A search by Optuna in batches: 64 trials, one compiled program for each structure.

pip install 'fedjax-sl[optuna]'
python examples/optuna_batches.py [--trials 64] [--batch 16] [--rounds 60]
"""

import argparse

import jax
import numpy as np

from fedjax_sl import Batches, FedSLConfig, fedsl, load, simulate
from fedjax_sl.data import iid
from fedjax_sl.extras import require
from fedjax_sl.models.mlp import mlp
from fedjax_sl.models.options import Options


CLIENTS = 4


def suggest(trial, rounds: int) -> FedSLConfig:
    """Turns a trial into a configuration; the granularity alone makes a structure."""
    return FedSLConfig(
        cohort_size=CLIENTS,
        learning_rate=trial.suggest_float("learning_rate", 1e-3, 0.1, log=True),
        bits=trial.suggest_int("bits", 2, 8),
        prune_ratio=trial.suggest_float("prune_ratio", 0.0, 0.5),
        prune_end=rounds // 2,
        granularity=trial.suggest_categorical("granularity", ["filter", "weight"]),
    )


def accuracy_on_held_out(rounds: int):
    """Returns `accuracy(train, held, config)` of a run, a pure function; and the data.

    Settings are chosen on images that were held out of training, not on the test split.
    """
    train, held = load("digits", split="train", image_size=32).divided(300)
    clients = iid(np.random.default_rng(0), train.label, CLIENTS)
    options = Options(input_shape=train.image.shape[1:], width=0.1)
    model = mlp(options).at(1)

    def accuracy(train, held, config):
        _, history = simulate(
            fedsl(model, config),
            train,
            clients,
            jax.random.key(0),
            test=held,
            rounds=rounds,
            batch_size=16,
            eval_every=rounds,
        )
        return history.evaluation[""].accuracy[-1]

    return accuracy, (train, held)


def search(study, points_of, batches, *, trials: int, batch: int) -> None:
    """Asks for a batch of trials, runs them together, and tells what they reached."""
    for first in range(0, trials, batch):
        asked = [study.ask() for _ in range(min(batch, trials - first))]
        reached = batches([points_of(trial) for trial in asked])
        for trial, value in zip(asked, reached, strict=True):
            study.tell(trial, float(value))
        print(f"{first + len(asked)} trials: best {study.best_value:.3f}", flush=True)


def main() -> None:
    """Prints the best accuracy after each batch, and the settings that reached it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    require("optuna", "a search by Optuna needs")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Trials of a batch are asked for before any is told: a liar keeps them apart.
    sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    accuracy, data = accuracy_on_held_out(options.rounds)
    # Data are arguments of the program; closed over, they would be constants in it.
    batches = Batches(accuracy, shared=data)
    search(
        study,
        lambda trial: suggest(trial, options.rounds),
        batches,
        trials=options.trials,
        batch=options.batch,
    )
    print(study.best_params)


if __name__ == "__main__":
    main()
