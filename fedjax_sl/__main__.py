"""`fedjax-sl` and `python -m fedjax_sl`: Ctrl-C is obeyed before JAX is imported."""

import signal

from fedjax_sl.runs.signals import end, obeying


def main() -> None:
    """Entry point; see `cli.main`."""
    # What is restored at the end: Python's own handler raises, in whatever the
    # interpreter tidies up then.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with obeying(end):
        from fedjax_sl.cli.main import main

        main()


if __name__ == "__main__":
    main()
