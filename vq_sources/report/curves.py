"""Bits per dimension against the size of the circuit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from vq_sources.report.drawing import GREY, PALETTE, new_figure, save_figure
from vq_sources.report.rows import Row, method_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bpd_curves"]

MARKERS = "os^Dvp"
WIDE = 20
"""From so many times the smallest number on, an axis is logarithmic: a few codes can cost a hundred times what many do."""


def bpd_curves(rows: Sequence[Row], path: Path, title: str) -> None:
    """One curve for each method and weights over N, and the exact model as a level; continuous and discrete apart.

    **Arguments**

    - `rows`: of the method "exact" at most one; a panel whose numbers are missing is left out.
    - `path`: of the PNG file.
    - `title`: above the panels.

    **Raises** `ImportError` without matplotlib.
    """
    continuous = [(row, row.continuous_bpd) for row in rows if row.continuous_bpd is not None]
    discrete = [(row, row.discrete_bpd) for row in rows]
    panels = [(name, points) for name, points in (("continuous", continuous), ("discrete", discrete)) if points]
    figure = new_figure(1.4 + 3.7 * len(panels), 3.9)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (name, points) in zip(axes, panels, strict=True):
        _panel(ax, points)
        ax.set_title(f"{name} (lower is better)", fontsize=9.5, color=GREY)
        ax.set_ylabel("bits per dimension", fontsize=9.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path)


def _panel(ax: Axes, points: Sequence[tuple[Row, float]]) -> None:
    curves = [p for p in points if p[0].method != "exact"]
    sizes = sorted({row.reached for row, _ in curves})
    for number, (_, group) in enumerate(groupby(curves, lambda p: (p[0].method, p[0].weights))):
        block = list(group)
        row = block[0][0]
        ax.plot(
            [r.reached for r, _ in block],
            [value for _, value in block],
            color=PALETTE[number % len(PALETTE)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4.5,
            linewidth=1.4,
            label=f"{method_name(row.method)}, {row.weights} weights",
        )
    for row, value in points:
        if row.method == "exact":
            ax.axhline(
                value, color="black", linestyle="--", linewidth=1.2, label=f"exact model, all {row.reached:,} codes"
            )
    ax.set_xscale("log", base=4)
    asked = sorted({row.asked for row, _ in curves if row.asked == row.reached})
    ax.set_xticks(asked or sizes, [f"{n:,}" for n in asked or sizes])
    values = [value for _, value in points]
    if min(values) > 0 and max(values) > WIDE * min(values):
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set_xlabel("codes N", fontsize=9.5)
    ax.tick_params(labelsize=8.5)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
