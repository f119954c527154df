"""Few settings that contain every pair of options."""

from itertools import combinations, product

import numpy as np


def covering(axes, allowed, *, tries=200, seed=0):
    """Rows of options such that each allowed pair of them occurs in one.

    Greedy: a row starts from a pair not met yet and takes, of many completions at
    random, the one with most pairs not met yet.

    Args:
      axes: the options of each axis, by its name.
      allowed: whether a row, `{name: option}`, makes sense.
      tries: completions tried for a row.
      seed: of the draws.

    Returns:
      The rows. A pair that no completion allows is left out.
    """
    rng = np.random.default_rng(seed)
    open_pairs = [
        ((a, x), (b, y))
        for a, b in combinations(axes, 2)
        for x, y in product(axes[a], axes[b])
    ]
    rows = []
    while open_pairs:
        first = dict(open_pairs.pop(0))
        drawn = [
            {a: options[rng.integers(len(options))] for a, options in axes.items()}
            | first
            for _ in range(tries)
        ]
        candidates = [row for row in drawn if allowed(row)]
        if not candidates:
            continue

        best = max(candidates, key=lambda row: len(contained(row, open_pairs)))
        rows.append(best)
        met = contained(best, open_pairs)
        open_pairs = [pair for pair in open_pairs if pair not in met]
    return rows


def contained(row, pairs):
    """Those of the pairs that the row has."""
    return [pair for pair in pairs if all(row[axis] == option for axis, option in pair)]
