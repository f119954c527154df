"""Primitives of traced programs, by what they do to axes."""

ENTRY_BY_ENTRY = {
    *("abs", "add", "add_any", "and", "atan2", "cbrt", "ceil", "clamp", "copy", "cos"),
    *("cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1"),
    *("floor", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p"),
    *("logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "rem"),
    *("reduce_precision", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt"),
    *("square", "stop_gradient", "sub", "tan", "tanh", "xor"),
}

REDUCTIONS = {
    *("reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
    *("argmax", "argmin"),
}
"""A pruned channel, which is 0, would still count in these."""

BRANCHING = {"scan", "while", "cond"}
