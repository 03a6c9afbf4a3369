"""Filter a file in a process of its own: ``python -m benchmarks.memory_probe '{"source": "in.tif", ...}'``.

Prints as JSON what was predicted of the process's memory, part by part, and what it came to.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from blurfast import Convolution, Gaussian, MemoryBudgetError, filter_file
from blurfast.filters import Filter
from blurfast.resources import peak_memory


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Filter as ordered; return the predicted and the measured peak, or what the refusal says would suffice."""
    source, target = order.pop("source"), order.pop("target")
    filter: Filter = Convolution(order.pop("kernel")) if "kernel" in order else Gaussian(order.pop("sigma"))
    try:
        report = filter_file(source, target, filter, overwrite=True, **order)
    except MemoryBudgetError as error:
        return {"remedy": error.remedy, "measured": peak_memory()}
    plan = max(report.plans, key=lambda plan: plan.predicted_memory)
    facts = plan.as_dict()
    return {
        "predicted": plan.predicted_memory,
        "measured": peak_memory(),
        "limit": plan.budget,
        **{name: facts[name] for name in ("memory", "method", "band")},
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
