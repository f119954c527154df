"""Time, energy, privacy and convergence bounds, computed after a run."""
