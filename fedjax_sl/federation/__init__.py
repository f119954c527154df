"""Client mappings, aggregation, and the backward pass through the cut."""

from fedjax_sl.federation.aggregation import (
    broadcast,
    client_weights,
    mean_of_shares,
    share,
    weighted_mean,
)
from fedjax_sl.federation.split_grad import Cut, SplitGrad, split_grad


__all__ = [
    "Cut",
    "SplitGrad",
    "broadcast",
    "client_weights",
    "mean_of_shares",
    "share",
    "split_grad",
    "weighted_mean",
]
