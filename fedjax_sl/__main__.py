"""`fedjax-sl` and `python -m fedjax_sl`: Ctrl-C is obeyed before JAX is imported."""

from fedjax_sl.runs.signals import end, obeying


def main() -> None:
    """Entry point; see `cli.main`."""
    with obeying(end):
        from fedjax_sl.cli.main import main

        main()


if __name__ == "__main__":
    main()
