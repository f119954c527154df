"""Files on disk: run folders, metrics, checkpoints, sweep folders."""
