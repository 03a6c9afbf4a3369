"""Draw times against the side of the kernel: where the curves of two methods cross, the choice turns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Curves = Mapping[str, Mapping[int, float]]
"""Milliseconds by the side of the kernel, by the name of a method or library."""

_OWN = {"direct": "tab:blue", "separable": "tab:green", "fft": "tab:red"}
_OTHERS = ("0.35", "0.55", "0.7")


def draw_crossover(panels: Mapping[str, Curves], path: Path) -> None:
    """Draw one panel for each kind of kernel, side by side, into a picture."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 4.2), sharey=True, layout="constrained")
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        others = iter(_OTHERS)
        for name, times in curves.items():
            if name == "auto":
                axis.plot(list(times), list(times.values()), "o", color="black", markersize=4, label="auto", zorder=3)
            elif name in _OWN:
                axis.plot(list(times), list(times.values()), color=_OWN[name], linewidth=2, label=name)
            else:
                axis.plot(list(times), list(times.values()), color=next(others), linestyle="--", label=name)
        axis.set(xscale="log", yscale="log", title=title, xlabel="side of the kernel")
        axis.set_xticks([3, 7, 15, 31, 63, 127, 255])
        for formatted in (axis.xaxis, axis.yaxis):
            formatted.set_major_formatter(ScalarFormatter())
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds")
    axes[-1].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)
