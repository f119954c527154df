"""Configuration of FedSL, with units and ranges."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedjax_sl.compression.dropout import Per
from fedjax_sl.compression.pruning import Granularity, Scope, Shape
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compression.rounding import Rounding
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.config_base import (
    Integer,
    IntegerPerClass,
    Number,
    OptimizerName,
    PerClass,
    pytree,
    static,
)
from fedjax_sl.federation.aggregation import ClientWeight
from fedjax_sl.federation.aggregator_config import AggregatorConfig
from fedjax_sl.federation.level_config import LevelConfig
from fedjax_sl.fedsl.config_checks import (
    LINKS,
    check_aggregator,
    check_links,
    check_no_mean,
    check_numbers,
    check_shared_gradient,
)
from fedjax_sl.training import TrainingConfig


@pytree
@dataclass(frozen=True, kw_only=True)
class FedSLConfig(TrainingConfig):
    """Configuration of FedSL (arXiv 2412.06414).

    Ratios, rates and bits may be given as several values, one for each class of
    devices: of G values, client k has number k mod G.
    """

    cohort_size: int = static(10)
    """K, clients that participate between two aggregations."""

    interval: Integer = 5
    """I, rounds between two aggregations of the client models, >= 1."""

    learning_rate: Number | None = None
    """gamma, of the clients and, unless set separately, of the server, >= 0; if not
    given, 0.02, or 0.02 / K on a side that takes K steps in a round: the server of
    SplitFed v2, both sides of a relay."""

    server_learning_rate: Number | None = None
    """Learning rate of the server, >= 0; the clients' if not given."""

    momentum: Number = 0.9
    """Momentum of SGD on both sides, in [0, 1); Adam ignores it."""

    optimizer: OptimizerName = static("sgd")
    """Optimiser on both sides of the cut."""

    prune_ratio: PerClass = 0.35
    """rho_f, final share of each client kernel that is pruned, in [0, 1). What reads a
    pruned filter goes, too: of the entries about (1 - rho_f)^2 are kept."""

    prune_start: Integer = 0
    """t_0, round at which the pruning ratio starts to grow; a constant one is rho_f
    from the first round."""

    prune_end: Integer | None = None
    """t_1, round at which it reaches its final value; if not given, a run takes half of
    its rounds, and the bare algorithm t_0."""

    prune_shape: Shape = static("cubic")
    """How the ratio grows in between."""

    # Filters shrink dense products; single weights need hardware that skips zeros.
    granularity: Granularity = static("filter")
    """Prune whole output filters, or single weights."""

    thin_cut: bool = static(True)
    """Do not send the activations of filters that are pruned from the last client
    layer, nor their gradients: the server knows that they are 0."""

    importance: Literal["taylor", "magnitude", "random"] = static("taylor")
    """Score: (gradient x weight)^2, absolute weight, or a random draw."""

    scoring: Literal["running", "pass"] = static("running")
    """Taylor scores from the gradients of the period that ends, at no cost (a client
    that was not in it prunes by magnitude); or from a forward and backward pass of its
    own, when a period starts."""

    prune_scope: Scope = static("layer")
    """Rank within each kernel, or over all client kernels together."""

    mask_scope: Literal["per_client", "common"] = static("per_client")
    """One mask per client, or a common mask from the scores averaged over clients;
    scores then go up and the mask down when a period starts."""

    # Only weights that are restored let a later mask undo what an earlier one pruned.
    restore: bool = static(True)
    """Pruned weights keep their value and compete again; if not, they become 0, and
    stay so where all clients pruned them."""

    # All, as the bound assumes: who pruned an entry counts with the value it had.
    average_over: Literal["all", "keepers"] = static("all")
    """Average each entry over all clients, or over the clients that kept it; an entry
    that no client kept is unchanged."""

    bits: IntegerPerClass = 8
    """b, bits of gradients and updates, with sign, in 2..32; 32 is float32. Of
    activations: `activations.bits`."""

    grad_bits: IntegerPerClass | None = None
    """Bits of the client's gradient in its local step; `bits` if not given."""

    gradients: CompressorConfig = CompressorConfig()
    """Compressor of the client's gradient in its local step, in place of the bits."""

    upload_bits: IntegerPerClass | None = None
    """Bits of the client's uploaded update; `bits` if not given."""

    updates: CompressorConfig = CompressorConfig()
    """Compressor of the client's uploaded update, in place of the bits."""

    levels: LevelConfig = LevelConfig()
    """Levels of the updates, by round and by client."""

    aggregator: AggregatorConfig = AggregatorConfig()
    """Step from the mean of the clients' halves to the next one."""

    down_bits: IntegerPerClass = 32
    """Bits of the gradients sent back at the cut, in 2..32."""

    models: CompressorConfig = CompressorConfig()
    """Compressor of the client's half that the server sends when a period starts."""

    cut_gradients: CompressorConfig = CompressorConfig()
    """Compressor of the gradients sent back at the cut, in place of `down_bits`."""

    features: CompressorConfig = CompressorConfig()
    """Compressor of the features that the server sends to the tails (`model.tail`)."""

    feature_gradients: CompressorConfig = CompressorConfig()
    """Compressor of the gradients that are sent back for these features."""

    # Not QSGD's 2-norm, whose error bound sqrt(M) / s is 12 for 2.4 million entries at
    # b = 8.
    quantizer_norm: Literal["max", "l2", "range"] = static("max")
    """Scale of a quantised tensor: its largest magnitude, its 2-norm, or the range of
    its entries, which is always cut into 2^b - 1 intervals."""

    quantizer_levels: Literal["2^(b-1)-1", "2^b-1", "2^b"] = static("2^(b-1)-1")
    """s, intervals between 0 and the norm; a value, with its sign, takes b, b + 1 or
    b + 2 bits."""

    rounding: Rounding = static("stochastic")
    """Round an entry up or down at random, so that it is unbiased; to the nearest
    level; to the level below; or that, rebuilt as the middle of its interval."""

    quantizer_error: Number | None = None
    """epsilon, > 0: each tensor of a client takes the fewest bits, up to b, that keep
    the squared error within this share of its squared norm; all b if not given."""

    activations: CompressorConfig = CompressorConfig()
    """Compressor of the activations that are sent, after the dropout."""

    dropout_rate: PerClass = 0.2
    """p, share of the activations dropped at the cut, in [0, 1)."""

    # Unbiased, so that an evaluation without dropout needs no factor.
    rescale: bool = static(True)
    """Divide the activations that remain by 1 - p."""

    dropout_per: Per = static("element")
    """Drop single activations or whole channels of an example."""

    dropout_mask: Literal["shared_key", "bitmap"] = static("shared_key")
    """The server redraws the mask from a shared key, or receives one bit per entry."""

    charge_scoring: bool = static(True)
    """Count what the scoring pass sends over the cut."""

    client_weight: ClientWeight = static("equal")
    """omega_k: equal for every client, or proportional to its examples."""

    server_update: Literal["merged", "sequential"] = static("merged")
    """One server step on all clients' activations, or one step after each client."""

    client_update: Literal["parallel", "relay", "local"] = static("parallel")
    """Clients step in parallel, or pass one client model from each to the next; or step
    in parallel and keep their own models, which are never averaged (PSL)."""

    backward: Literal["own", "mean"] = static("own")
    """Gradients at the cut: of each client's own activations, or their mean over
    clients, broadcast to all (SFL-GA)."""

    @property
    def scoring_pass(self) -> bool:
        """Whether a pass of its own scores the weights when a period starts."""
        return self.importance == "taylor" and self.scoring == "pass"

    @property
    def running_scores(self) -> bool:
        """Whether local steps score the weights for the next period."""
        return self.importance == "taylor" and self.scoring == "running"

    @property
    def sequential(self) -> bool:
        """Whether clients step sequentially rather than in parallel."""
        return self.server_update == "sequential" or self.client_update == "relay"

    @property
    def compressed_cut(self) -> bool:
        """Whether a compressor is applied to the activations or their gradients."""
        return self.activations.active or self.cut_gradients.active

    @property
    def compressed_behind(self) -> bool:
        """Whether a compressor is applied at a second cut."""
        return self.features.active or self.feature_gradients.active

    @property
    def compressed(self) -> bool:
        """Whether a compressor is applied to anything that is sent."""
        return any(getattr(self, link).active for link in LINKS)

    @property
    def coded(self) -> bool:
        """Whether any values are sent with fewer than 32 bits; not for traced bits."""
        links = [(self.grad_bits, self.gradients), (self.upload_bits, self.updates)]
        # The others send no update: a relay passes on models, a client keeps its own.
        links = links if self.client_update == "parallel" else links[:1]
        up = [bits or self.bits for bits, instead in links if not instead.active]
        return any(np.min(bits) < FLOAT_BITS for bits in (*up, self.down_bits))

    def __post_init__(self):
        """Checks choices and plain numbers; traced values pass."""
        super().__post_init__()
        check_numbers(self)
        check_links(self)
        check_no_mean(self)
        check_shared_gradient(self)
        check_aggregator(self)
