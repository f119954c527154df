"""Convergence bounds with constants estimated from runs."""
