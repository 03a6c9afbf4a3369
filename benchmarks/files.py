"""Compare blurfast with other libraries on whole files, through the command line: ``python -m benchmarks.files``.

Every run is a process of its own that reads a file, blurs it and writes it. Writes the page docs/files.md, and the
figures in it to benchmarks/files.json, where a run of some cases leaves the others as they are.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from pathlib import Path

from benchmarks import file_page
from benchmarks.file_cases import CASES
from benchmarks.file_measure import measure_case
from benchmarks.file_peers import PEERS, vips_version
from blurfast.bench.description import describe_machine
from blurfast.bench.measure import Effort
from blurfast.resources import thread_count

PAGE = Path(__file__).parents[1] / "docs" / "files.md"
RESULTS = Path(__file__).with_name("files.json")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the page, and write it."""
    options = _parse(arguments)
    cases = [case for case in CASES if not options.case or case.name in options.case]
    absent = {name: why for name, peer in PEERS.items() if (why := peer.why_absent()) is not None}
    machine = {**describe_machine(options.threads), "vips": vips_version()}
    results = file_page.Results(machine, dt.date.today().isoformat(), absent=absent)
    peers = {name: peer for name, peer in PEERS.items() if name not in absent}
    effort = Effort(options.repeats, options.budget)
    for case in cases:
        measured = case.quick() if options.quick else case
        results.cases[case.name] = measure_case(
            measured, peers, options.folder.resolve(), options.threads, effort, _show
        )
    results = results.with_earlier(options.results)
    page = file_page.render(results)
    print(page, end="")
    for path, text in ((options.results, results.to_json()), (options.page, page)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    parser.add_argument("--case", choices=[case.name for case in CASES], action="append", help="only this; repeatable")
    parser.add_argument("--quick", action="store_true", help="small images, one run each, and no page in docs")
    parser.add_argument("--threads", type=int, default=thread_count(None), help="for every library")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds after which a library runs no more")
    parser.add_argument("--folder", type=Path, default=Path("build/benchmark-files"), help="where the files are kept")
    parser.add_argument("--results", type=Path, help="default: benchmarks/files.json, with --quick in the folder")
    parser.add_argument("--page", type=Path, help="default: docs/files.md, with --quick in the folder")
    options = parser.parse_args(arguments)
    if options.quick:
        options.budget = 0.0
    options.results = options.results or (options.folder / "files.json" if options.quick else RESULTS)
    options.page = options.page or (options.folder / "files.md" if options.quick else PAGE)
    return options


def _show(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    main()
