"""Run a command, and print what it took: ``python -S file_process.py COMMAND ARGUMENTS...``.

A program of its own that imports next to nothing, because a process begins with the peak memory of the one that it was
started from. Prints as JSON the exit status, the seconds from the start of the command to its end, and the peak of its
resident memory in bytes. What the command prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time

_RESIDENT_UNIT = 1 if sys.platform == "darwin" else 1024


def main(command: list[str]) -> None:
    """Run a command."""
    started = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    measured = {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "peak_memory": usage.ru_maxrss * _RESIDENT_UNIT,
    }
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
