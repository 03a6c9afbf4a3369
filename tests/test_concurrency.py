"""Filtering among threads, forks and other users of Numba. Every script runs in a process of its own, with a limit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 60

PRELUDE = """
import multiprocessing, os, sys, threading, time
import numpy as np
from blurfast import gaussian
generator = np.random.default_rng(0)
small = generator.integers(0, 65536, (300, 400)).astype("uint16")
large = generator.integers(0, 65536, (1500, 2000)).astype("uint16")
expected_small, expected_large = gaussian(small, 3.0, threads=1), gaussian(large, 3.0, threads=1)

def check(image, expected, threads=4):
    assert np.array_equal(gaussian(image, 3.0, threads=threads), expected)

def helpers():
    return sum(thread.name.startswith("blurfast") for thread in threading.enumerate())

def in_threads(count, work):
    failures = []
    def guarded():
        try:
            work()
        except BaseException as failure:
            failures.append(failure)
    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
"""


def run(script: str, tmp_path: Path, **variables: str) -> str:
    """Run a script, which must end by itself, silently and with success."""
    path = tmp_path / "script.py"
    path.write_text(PRELUDE + textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(path)], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        pytest.fail(f"it did not end within {SECONDS} s: {process.communicate()[1][-2000:]}")
    assert process.returncode == 0, errors[-2000:]
    return output


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_eight_threads_at_once(tmp_path):
    output = run(
        """
        most, done = [0], []

        def watch():
            while not done:
                most[0] = max(most[0], helpers())
                time.sleep(0.0005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        in_threads(8, lambda: [check(small, expected_small) or check(large, expected_large) for _ in range(4)])
        done.append(1)
        watcher.join()
        print(most[0], helpers(), threading.active_count())
        """,
        tmp_path,
    )
    most, left, active = map(int, output.split())
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert most <= max(1, processors - 1)
    assert left == 0
    assert active == 1


def test_eight_threads_that_filter_in_place(tmp_path):
    """These calls go through the engine of streams; they add no more helpers than others do."""
    output = run(
        """
        most, done = [0], []

        def watch():
            while not done:
                most[0] = max(most[0], threading.active_count() - 10)
                time.sleep(0.0005)

        def work():
            for _ in range(4):
                image = large.copy()
                gaussian(image, 3.0, out=image)
                assert np.array_equal(image, expected_large)

        watcher = threading.Thread(target=watch)
        watcher.start()
        in_threads(8, work)
        done.append(1)
        watcher.join()
        print(most[0])
        """,
        tmp_path,
    )
    writers = 8  # which only wait, and copy nothing
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(output) <= writers + max(1, processors - 1)


def test_first_calls_at_once(tmp_path):
    """Eight threads load the same kernels, and others, at the same time."""
    run(
        """
        dtypes = ["uint8", "int16", "float32", "float64", "int8", "bool", "int32", "float16"]
        barrier, names = threading.Barrier(8), list(dtypes)

        def work():
            barrier.wait()
            image = np.ones((70, 90), names.pop())
            assert (gaussian(image, 2.0) == 1).all()
            check(small, expected_small)

        in_threads(8, work)
        """,
        tmp_path,
    )


@needs_fork
def test_fork_after_use_while_both_sides_filter(tmp_path):
    run(
        """
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                try:
                    for _ in range(5):
                        check(large, expected_large)
                    assert (gaussian(np.ones((70, 90), "float64"), 2.0) == 1).all()  # kernels new to the child
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(child)
            check(large, expected_large)
        assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
        """,
        tmp_path,
    )


@needs_fork
def test_fork_while_other_threads_filter(tmp_path):
    """The child inherits locks and places that threads hold which it does not have."""
    run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of exactly this
        stop = []

        def keep_busy():
            while not stop:
                check(small, expected_small)
                image = small.copy()
                gaussian(image, 3.0, out=image)

        busy = [threading.Thread(target=keep_busy) for _ in range(3)]
        for thread in busy:
            thread.start()
        for _ in range(15):
            child = os.fork()
            if child == 0:
                try:
                    check(large, expected_large)
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.append(1)
        for thread in busy:
            thread.join()
        """,
        tmp_path,
    )


@needs_fork
def test_fork_while_another_thread_loads_kernels(tmp_path):
    """The child loads kernels itself, whoever held the locks of loading when it was born."""
    output = run(
        """
        import faulthandler, random, warnings
        from blurfast.cpu import objects
        warnings.simplefilter("ignore", DeprecationWarning)
        ones = {name: np.ones((20, 30), name) for name in ("float32", "float64")}
        for image in ones.values():
            gaussian(image, 2.0)

        def load_again_and_again():
            for _ in range(120):
                objects._loaded.clear()
                gaussian(ones["float32"], 2.0, threads=1)

        for _ in range(20):
            loading = threading.Thread(target=load_again_and_again)
            loading.start()
            time.sleep(random.uniform(0.001, 0.01))
            child = os.fork()
            if child == 0:
                faulthandler.dump_traceback_later(5, exit=True)
                try:
                    objects._loaded.clear()
                    assert (gaussian(ones["float64"], 2.0) == 1).all()
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            loading.join()
        """,
        tmp_path,
    )
    assert output == ""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(tmp_path, method):
    run(
        f"""
        def work(sigma):
            return gaussian(small, sigma, threads=3).tobytes()

        if __name__ == "__main__":
            if {method!r} not in multiprocessing.get_all_start_methods():
                sys.exit()
            with multiprocessing.get_context({method!r}).Pool(3) as pool:
                pending = pool.map_async(work, [1.0, 2.0, 3.0] * 2)
                check(large, expected_large)
                results = pending.get(50)
            assert results == [gaussian(small, sigma).tobytes() for sigma in [1.0, 2.0, 3.0] * 2]
        """,
        tmp_path,
    )


def has_layer(layer: str) -> bool:
    code = (
        "import numba, numpy\n"
        "@numba.njit(parallel=True)\n"
        "def double(values):\n"
        "    for index in numba.prange(values.size):\n"
        "        values[index] *= 2\n"
        "double(numpy.ones(10))\n"
    )
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    return (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_beside_a_parallel_function_of_the_users(tmp_path, layer):
    if not has_layer(layer):
        pytest.skip(f"Numba's threading layer {layer} is not to be had here")
    run(
        """
        import numba

        @numba.njit(parallel=True)
        def double(values):
            for index in numba.prange(values.size):
                values[index] *= 2

        double(np.ones(1000))
        stop = []

        def keep_doubling():
            while not stop:
                double(np.ones(100_000))

        doubling = threading.Thread(target=keep_doubling)
        doubling.start()
        in_threads(3, lambda: [check(large, expected_large) for _ in range(5)])
        stop.append(1)
        doubling.join()
        assert numba.threading_layer() == os.environ["NUMBA_THREADING_LAYER"]
        """,
        tmp_path,
        NUMBA_THREADING_LAYER=layer,
    )


@needs_fork
def test_fork_beside_openmp(tmp_path):
    """A child of a process with a used OpenMP may filter; only Numba's own parallel functions are barred there."""
    if not has_layer("omp"):
        pytest.skip("Numba's threading layer omp is not to be had here")
    run(
        """
        import numba

        @numba.njit(parallel=True)
        def double(values):
            for index in numba.prange(values.size):
                values[index] *= 2

        double(np.ones(1000))
        child = os.fork()
        if child == 0:
            try:
                check(large, expected_large)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """,
        tmp_path,
        NUMBA_THREADING_LAYER="omp",
    )


def test_filtering_while_the_interpreter_ends(tmp_path):
    """In an exit handler no new thread can start, from Python 3.12 on."""
    output = run(
        """
        import atexit
        atexit.register(lambda: (check(large, expected_large), print("done")))
        """,
        tmp_path,
    )
    assert output.strip() == "done"


def test_daemon_threads_do_not_keep_the_process(tmp_path):
    output = run(
        """
        threading.Thread(target=lambda: [gaussian(large, 3.0) for _ in range(10_000)], daemon=True).start()
        time.sleep(0.2)
        """,
        tmp_path,
    )
    assert output == ""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such timer")
def test_an_interrupt_ends_the_call(tmp_path):
    run(
        """
        import signal
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        huge = np.zeros((6000, 6000), "float32")
        for _ in range(3):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                for _ in range(50):
                    gaussian(huge, 20.0)
                raise SystemExit("it was not interrupted")
            except KeyboardInterrupt:
                assert helpers() == 0
        check(large, expected_large)
        """,
        tmp_path,
    )
