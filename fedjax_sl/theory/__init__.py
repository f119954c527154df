"""Bounds whose constants are estimated from runs."""
