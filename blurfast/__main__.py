"""Lets ``python -m blurfast`` do what the program ``blurfast`` does."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    from blurfast_cli.main import main as command_line  # the one import that runs upwards

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
