"""`fedjax-sl` and `python -m fedjax_sl`: Ctrl-C is obeyed before JAX is imported."""

from fedjax_sl.experiment.signals import end, obeying


def main() -> None:
    """Entry point; see `experiment.cli.main`."""
    with obeying(end):
        from fedjax_sl.experiment.cli import main

        main()


if __name__ == "__main__":
    main()
