"""The methods that may carry a filter out on an image: what each needs, costs and gives.

One module holds one method, and `device` what a GPU makes of them. Each class answers the same questions
(`base.Method`), and none touches a pixel. `candidates` lists all of them for a filter, with the reason where one cannot
serve. Which is taken is decided in `choices`.
"""

from __future__ import annotations

from blurfast.methods.base import Job, Method
from blurfast.methods.device import Gpu, LackOfMemory, OnDevice, make_operator, on_device, plan_operator_tiles
from blurfast.methods.direct import DirectMethod
from blurfast.methods.fft import FftMethod
from blurfast.methods.identity import IdentityMethod
from blurfast.methods.multirate import MultirateMethod
from blurfast.methods.separable import SeparableMethod

__all__ = [
    "Candidates",
    "DirectMethod",
    "FftMethod",
    "Gpu",
    "IdentityMethod",
    "Job",
    "LackOfMemory",
    "Method",
    "MultirateMethod",
    "OnDevice",
    "SeparableMethod",
    "candidates",
    "make_operator",
    "on_device",
    "plan_operator_tiles",
]

Candidates = dict[str, Method | str]
"""Every method by its name, or why it cannot serve."""


def candidates(job: Job) -> Candidates:
    """Return all methods for a job; the earlier ones are taken where the cost is equal.

    That of filters which change nothing is left out where it cannot serve: it can't be asked for.
    """
    methods: Candidates = {
        "separable": SeparableMethod.of(job),
        "multirate": MultirateMethod.of(job),
        "direct": DirectMethod.of(job),
        "fft": FftMethod.of(job),
    }
    identity = IdentityMethod.of(job)
    return methods if isinstance(identity, str) else {"identity": identity, **methods}
