"""A run in segments: the rounds of each call of its program, as they are recorded."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sl.custom import CustomRun
from fedjax_sl.records.checkpoint import Checkpoint
from fedjax_sl.records.metrics import Totals, read_record, round_lines
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.calls import Call, calls
from fedjax_sl.runs.programs import Programs
from fedjax_sl.traffic import Record, record_of


class Diverged(Exception):
    """No client's loss is a number any more; the message names the round."""


class Segment(NamedTuple):
    """Some rounds of a run.

    Attributes:
      rounds: lines of rounds.jsonl.
      line: of metrics.jsonl, if there was an evaluation after them.
      reached: the run after them, its state where the call's was.
    """

    rounds: list[dict[str, Any]]
    line: dict[str, Any] | None
    reached: Checkpoint


def totals_of(job: Job, begin: Checkpoint) -> Totals:
    """The sums of a run up to a checkpoint."""
    trained_on = job.config.trained_on(np.asarray(job.partition.count))
    return Totals(
        job.test,
        steps=job.method.steps,
        epochs=trained_on / len(job.train.label),
        channel=job.config.channel,
        sequential=job.config.sequential,
        so_far=begin.totals,
        pending=begin.pending,
        answers=begin.answers,
        counts=not isinstance(job.config, CustomRun),
    )


def segment_of(totals: Totals, call: Call) -> Segment:
    """The record of a call, whose rounds are added to the sums."""
    rounds, views = totals.add(call.first, call.rounds), call.views
    line = None if views is None else totals.line(call.done, views)
    # After `line`, which empties `pending`.
    evaluated = call.done - len(totals.pending)
    sums = totals.so_far()
    reached = Checkpoint(call.done, call.state, sums, evaluated=evaluated)
    return Segment(rounds, line, reached)


def _judged(record: Record) -> np.ndarray:
    """Returns whose losses tell, `[T, K]` bool: of clients that answered."""
    # Who is absent has the loss of padding, 0, however far the others diverged.
    answered = record.traffic.uplink > 0
    # A program's own algorithm need not count what is sent.
    return answered | ~answered.any(axis=1, keepdims=True)


def _check_losses(job: Job, totals: Totals, call: Call) -> None:
    """Stops a run where no client that answered in a round has a finite loss.

    Raises:
      Diverged: at the first such round since the last evaluation.
    """
    # If all messages of a round are corrupted, the models stay as they were.
    corrupted, views = job.config.corruption_probability > 0, call.views
    if corrupted and (views is None or np.isfinite(views[""].loss)):
        return
    # One client's loss may be no number: the round goes on without it.
    judged = _judged(record_of(call.rounds))
    if (judged & np.isfinite(call.rounds.loss)).any(axis=1).all():
        return
    # Under corruption earlier calls were not judged: the round may be in them.
    lines = [*totals.pending, *round_lines(call.first, call.rounds)]
    for line, own in zip(lines, _judged(read_record(lines)), strict=True):
        if not np.isfinite(line["loss"])[own].any():
            client, loss = line["client_id"][own.argmax()], line["loss"][own.argmax()]
            raise Diverged(
                f"round {line['round']}, client {client} and all others: the loss is "
                f"{loss}; a smaller learning rate may help."
            )


def segments(
    job: Job, programs: Programs, begin: Checkpoint, stops: Sequence[int] = ()
) -> Iterator[Segment]:
    """Trains to the end.

    Args:
      job: the run.
      programs: its.
      begin: where it is, the state on the devices.
      stops: every so many rounds a segment ends, as it does at evaluations.

    Yields:
      A `Segment` each; its state is donated to the next call.

    Raises:
      Diverged: if a loss is no longer finite.
    """
    totals = totals_of(job, begin)
    found = calls(
        programs,
        begin.state,
        begin.round,
        job.config.rounds,
        eval_every=job.config.eval_every,
        stops=stops,
    )
    for call in found:
        # First: rounds that diverged are never put on record.
        _check_losses(job, totals, call)
        yield segment_of(totals, call)
