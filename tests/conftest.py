"""What tests share: how much hypothesis tries, here and in CI; and a file for runs of the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A first call may compile a kernel, which no deadline per example allows for.
settings.register_profile("fast", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("fast"), derandomize=True, print_blob=True)
settings.register_profile("thorough", settings.get_profile("fast"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "fast"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an image file, all that its directory holds."""
    # Here, so that only the tests that run the command line import it.
    from tests.cli_runs import write_tiff

    return write_tiff(tmp_path / "in.tif")


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Put signal handlers back: a run that a signal has ended ignores all others, since its process is to end."""
    numbers = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
