"""``python -m sensorium`` is ``sensorium``."""

import sys


def main() -> None:
    """The command, which Ctrl-C ends without a traceback while it is still being imported too."""
    try:
        from sensorium.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("stopped before it began.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
