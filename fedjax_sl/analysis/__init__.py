"""What is computed from the record of a run, never inside it."""
