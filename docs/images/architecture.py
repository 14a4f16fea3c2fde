"""Draw the way of data through a compiled circuit: python docs/images/architecture.py"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

INK, UP, BACK, DOWN, QUIET = "#222222", "#1f6fb4", "#c2571a", "#2f8f4e", "#777777"

BOXES = {
    "compile": (0.3, 7.3, 3.3, 1.2, "a circuit, compiled once", "lower.py, rewrites/"),
    "stores": (0.3, 5.0, 3.3, 1.2, "parameters, prepared", "stores.py, state.py"),
    "source": (0.3, 2.7, 3.3, 1.2, "codes, decoded in ranges", "distil.py, leaf_parameters.py"),
    "x": (0.3, 0.4, 3.3, 1.2, "x as values and a mask", "evidence.py, leaf_functions.py"),
    "roots": (5.3, 7.3, 3.4, 1.2, "roots", "program.py"),
    "inner": (5.3, 3.85, 3.4, 1.2, "sums and products", "sums.py, products.py, edges.py"),
    "leaves": (5.3, 0.4, 3.4, 1.2, "leaves", "inputs.py, leaves.py, mixture.py"),
    "log_prob": (11.2, 7.3, 3.3, 1.2, "log_prob", "passes.py, likelihood.py"),
    "training": (11.2, 5.0, 3.3, 1.2, "gradients, for an optimiser", "passes.py, layer.py"),
    "mean": (11.2, 2.7, 3.3, 1.2, "mean, variance, posterior", "moments.py, posteriors.py"),
    "sample": (11.2, 0.4, 3.3, 1.2, "sample, map", "sampling.py, maximum.py"),
}
"""For each box its left, bottom, width and height, what happens in it, and the files where it does."""


def box(axes: Axes, left: float, bottom: float, width: float, height: float, title: str, files: str) -> None:
    """A box with a title and the names of files."""
    axes.add_patch(plt.Rectangle((left, bottom), width, height, facecolor="#f6f6f3", edgecolor=QUIET, linewidth=0.8))
    middle = left + width / 2
    axes.text(middle, bottom + 0.78, title, ha="center", va="center", fontsize=8.5, color=INK)
    axes.text(middle, bottom + 0.36, files, ha="center", va="center", fontsize=6.8, color=QUIET, family="monospace")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """A straight arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0})


def draw(axes: Axes) -> None:
    """All boxes, and the passes between them."""
    axes.set(xlim=(0, 14.8), ylim=(0, 9))
    axes.axis("off")
    for place in BOXES.values():
        box(axes, *place)
    for bottom, top in ((1.6, 3.85), (5.05, 7.3)):
        arrow(axes, (6.0, bottom), (6.0, top), UP)
        arrow(axes, (7.0, top), (7.0, bottom), BACK)
        arrow(axes, (8.0, top), (8.0, bottom), DOWN)
    for x, name, colour in ((6.0, "values", UP), (7.0, "flows", BACK), (8.0, "visits", DOWN)):
        axes.text(x + 0.1, 6.15, name, fontsize=7.5, color=colour, va="center")
    arrow(axes, (3.6, 1.0), (5.3, 1.0), UP)
    arrow(axes, (3.6, 3.2), (5.3, 1.4), QUIET)
    arrow(axes, (3.6, 5.5), (5.3, 4.6), QUIET)
    arrow(axes, (3.6, 7.9), (5.3, 4.95), QUIET)
    arrow(axes, (8.7, 7.9), (11.2, 7.9), UP)
    arrow(axes, (8.7, 4.7), (11.2, 5.5), BACK)
    arrow(axes, (8.7, 1.3), (11.2, 3.1), BACK)
    arrow(axes, (8.7, 0.8), (11.2, 0.8), DOWN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".png"))
    arguments = parser.parse_args()
    figure, axes = plt.subplots(figsize=(8.6, 5.2), layout="constrained")
    draw(axes)
    figure.savefig(arguments.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
