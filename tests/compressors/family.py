"""One configuration, or a few, of every kind of compressor."""

from fedjax_sl.compressors.config import CompressorConfig


FAMILY = {
    "float32": CompressorConfig(),
    "qsgd": CompressorConfig(kind="qsgd", bits=4),
    "qsgd-l2": CompressorConfig(kind="qsgd", bits=6, norm="l2"),
    "qsgd-nearest": CompressorConfig(kind="qsgd", bits=4, rounding="nearest"),
    "qsgd-omega": CompressorConfig(kind="qsgd", bits=4, norm="l2", coder="omega"),
    "qsgd-delta": CompressorConfig(kind="qsgd", bits=8, coder="delta"),
    "uniform": CompressorConfig(kind="uniform", bits=3),
    "uniform-floor": CompressorConfig(kind="uniform", bits=3, rounding="floor"),
    "uniform-rice": CompressorConfig(kind="uniform", bits=3, coder="rice"),
    "qsgd-rice": CompressorConfig(kind="qsgd", bits=6, coder="rice"),
    "uniform-range": CompressorConfig(kind="uniform", bits=3, coder="range"),
    "qsgd-range": CompressorConfig(kind="qsgd", bits=6, coder="range"),
    "qsgd-l2-range": CompressorConfig(kind="qsgd", bits=8, norm="l2", coder="range"),
    "terngrad": CompressorConfig(kind="terngrad"),
    "sign": CompressorConfig(kind="sign"),
    "natural": CompressorConfig(kind="natural"),
    "top_k": CompressorConfig(kind="top_k", keep=0.2),
    "top_k-qsgd": CompressorConfig(kind="top_k", keep=0.3, values="qsgd", bits=4),
    "random_k": CompressorConfig(kind="random_k", keep=0.2),
    "random_k-uniform": CompressorConfig(
        kind="random_k", keep=0.5, values="uniform", bits=4
    ),
    "rand_top_k": CompressorConfig(kind="rand_top_k", keep=0.2),
    "drive": CompressorConfig(kind="drive"),
    "eden": CompressorConfig(kind="eden", bits=3),
    "power_sgd": CompressorConfig(kind="power_sgd", rank=2),
}


def bits_of(link):
    """The bits of a `Link` of one message."""
    return int(link.entries) * int(link.bits) + int(link.more) + int(link.side)
