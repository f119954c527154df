"""Convolution and its lowerings, norms, pooling."""
