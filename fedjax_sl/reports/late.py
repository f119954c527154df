"""Updates that come after a deadline, and are in the accuracies all the same."""

from collections.abc import Sequence

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.records.finished_run import Finished, costs_over


def late_note(runs: Sequence[Finished], channel: Channel) -> str:
    """Says how many turns of clients were late, where nobody was excluded for it.

    Args:
      runs: seen over the channel.
      channel: with or without a deadline.

    Returns:
      A sentence; empty if nobody was late.
    """
    free = [run for run in runs if not run.config.drop_stragglers]
    if channel.deadline_s is None or not free:
        return ""
    late = [costs_over(run, channel).late for run in free]
    sent = [run.record.traffic.uplink + run.record.traffic.downlink for run in free]
    took_part = sum(int((bits > 0).sum()) for bits in sent)
    share = sum(int(one.sum()) for one in late) / max(took_part, 1)
    if not share:
        return ""
    return (
        f"{100 * share:.2g} % of the clients' turns end after the deadline of "
        f"{channel.deadline_s:g} s, where time ends for all, and yet count in the "
        "accuracies: seconds are then those of no possible run; --drop-stragglers "
        "leaves such clients out of a run."
    )
