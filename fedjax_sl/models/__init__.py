"""Networks that can be split, and the convolution that they are built on."""

from fedjax_sl.layers.conv import conv
from fedjax_sl.models.fedlp_cnn import cifar_cnn
from fedjax_sl.models.simple_cnn import split_simple_cnn
from fedjax_sl.models.split import SplitModel, SplitParams
from fedjax_sl.models.vgg import split_vgg


__all__ = [
    "SplitModel",
    "SplitParams",
    "cifar_cnn",
    "conv",
    "split_simple_cnn",
    "split_vgg",
]
