"""What is raised where something asked for cannot be done, and by nothing else."""


class InputError(ValueError):
    """Something asked for is out of range or cannot be had; a sentence says what."""
