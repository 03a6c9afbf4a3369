"""Lets ``python -m blurfast_cli`` do what ``blurfast`` does."""

import sys

from blurfast_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
