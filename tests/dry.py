"""Runs without training: folders, records and stops are what is tested with them."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Link, Links, RoundMetrics, Work
from fedjax_sl.cli import run as run_command
from fedjax_sl.cli.line import Line
from fedjax_sl.evaluation import Evaluation
from fedjax_sl.runs import run as running
from fedjax_sl.runs import sweep
from fedjax_sl.runs.programs import Programs


OPTIONS = [
    *("fedlpq", "--data.num-clients", "4", "--method.cohort-size", "3"),
    *("--model.width", "0.05", "--data.train-examples", "300"),
    *("--data.test-examples", "100"),
]
"""Of a run whose job is made quickly."""

CLIENTS = 3


class State(NamedTuple):
    """All that happened so far, in one number."""

    round: np.ndarray
    weights: np.ndarray


def _metrics(number: int) -> RoundMetrics:
    """Of a round, other numbers in each."""
    rng = np.random.default_rng(number)

    def link():
        whole = rng.integers(1, 1000, (4, CLIENTS)).astype(np.int32)
        return Link(*whole)

    def part():
        return rng.random(CLIENTS).astype(np.float32)

    return RoundMetrics(
        client_id=rng.permutation(4)[:CLIENTS].astype(np.int32),
        loss=part(),
        kept_ratio=part(),
        rejected=rng.random(CLIENTS) < 0.2,
        work=Work(part(), part()),
        links=Links(*(link() for _ in Links._fields)),
    )


def _stacked(first: int, count: int) -> RoundMetrics:
    rounds = [_metrics(first + n) for n in range(count)]
    return jax.tree.map(lambda *x: np.stack(x), *rounds)


def advance(state: State, first: int, count: int):
    """As of `Programs`: the weights tell which rounds have been run, in which order."""
    assert int(state.round) == first
    weights = state.weights
    for number in range(first, first + count):
        weights = np.float32(0.9) * weights + np.float32(number)
    return State(np.int32(first + count), weights), _stacked(first, count)


def views(state: State):
    """An evaluation that rises and falls, and tells the weights."""
    accuracy = 0.5 + 0.4 * np.sin(float(state.weights.sum()))
    return {"": Evaluation(accuracy, accuracy, 1 - accuracy)}  # type: ignore[arg-type]


def start() -> State:
    """Before the first round."""
    return State(np.int32(0), np.zeros(5, np.float32))


PROGRAMS = Programs(
    shape=start(), initial=start, place=lambda x: x, advance=advance, views=views
)


def side_by_side(any_job, size, most, *, vmapped=1):
    """As `programs_of_points`: the same for several runs at once."""
    del any_job, size, most

    def stacked(rows):
        return jax.tree.map(lambda *x: np.stack(x), *rows)

    def rows_of(state):
        count = len(state.round)
        return [jax.tree.map(lambda x, n=n: x[n], state) for n in range(count)]

    def programs(jobs):
        def further(state, first, count):
            new = [advance(row, first, count) for row in rows_of(state)]
            return stacked([one for one, _ in new]), stacked([m for _, m in new])

        seeds = [State(np.int32(0), np.full(5, j.config.seed, "f4")) for j in jobs]
        return Programs(
            shape=start(),
            initial=lambda: stacked(seeds),
            place=stacked,
            advance=further,
            views=lambda state: stacked([views(row) for row in rows_of(state)]),
        )

    return programs


def use(monkeypatch, programs: Programs = PROGRAMS) -> None:
    """Lets the command line run without training and plots.

    Its options are parsed once, and its jobs made once, for all folders.
    """
    jobs, prepare = {}, run_command.prepare
    commands, parse = {}, Line.parse_one_of

    def parsed(line, *rest):
        folder = line.start.folder
        words = tuple(word for word in line.words if word != str(folder))
        asked = words, repr(line.start.stored)
        if asked not in commands:
            commands[asked] = parse(line, *rest)
        name, command = commands[asked]
        return name, dataclasses.replace(command, folder=folder)

    def prepared(config):
        if repr(config) not in jobs:
            jobs[repr(config)] = prepare(config)
        return jobs[repr(config)]

    monkeypatch.setattr(running, "programs_of", lambda job: programs)
    monkeypatch.setattr(sweep, "programs_of_points", side_by_side)
    monkeypatch.setattr(running, "draw_plots", lambda *_: None)
    monkeypatch.setattr(run_command, "prepare", prepared)
    monkeypatch.setattr(Line, "parse_one_of", parsed)
