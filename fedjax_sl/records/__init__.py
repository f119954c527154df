"""What lies on disk: run folders, metrics, checkpoints, sweep folders."""
