"""Updates that come after a deadline, and are in the accuracies all the same."""

from collections.abc import Sequence

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.records.finished_run import Finished, costs_over


def late_note(runs: Sequence[Finished], channel: Channel) -> str:
    """Says how many turns of clients were late, though they took part.

    Args:
      runs: seen over the channel, those that excluded stragglers with their own
        deadline: over another channel than theirs, others would have been excluded.
      channel: with or without a deadline.

    Returns:
      A sentence; empty if nobody was late.
    """
    timed = [
        run
        for run in runs
        if run.config.drop_stragglers or channel.deadline_s is not None
    ]
    late = [costs_over(run, channel).late for run in timed]
    sent = [run.record.traffic.uplink + run.record.traffic.downlink for run in timed]
    took_part = sum(int((bits > 0).sum()) for bits in sent)
    share = sum(int(one.sum()) for one in late) / max(took_part, 1)
    if not share:
        return ""
    return (
        f"{100 * share:.2g} % of the clients' turns end after the deadline, where time "
        "ends for all, and yet count in the accuracies: seconds are then those of no "
        "possible run; --drop-stragglers leaves out those who are late over a run's "
        "own channel."
    )
