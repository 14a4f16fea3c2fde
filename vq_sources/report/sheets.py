"""Sheets of images: samples beside data, and inpaintings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from vq_sources.metrics import Inpainting
from vq_sources.report.drawing import GREY, HIDDEN, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["picture_inpainting", "picture_samples"]

CELL = 0.78
"""The side of one image, in inches."""


def picture_samples(
    samples: Float[Tensor, "n H W"],
    path: Path,
    title: str,
    data: Float[Tensor, "m H W"] | None = None,
    columns: int = 10,
) -> None:
    """A sheet of samples, and above it, where given, a row of images of the data to compare with.

    **Arguments**

    - `samples`: in [0, 1] units; values outside are shown as black or white.
    - `path`: of the PNG file.
    - `title`: above the samples.
    - `data`: the first `columns` of them are shown.
    - `columns`: images in a row.

    **Raises** `ImportError` without matplotlib.
    """
    count = -(-len(samples) // columns)
    above = 0 if data is None else 1
    figure = new_figure(CELL * columns, CELL * (count + above) + 0.3 * (1 + above))
    parts = figure.subfigures(1 + above, 1, height_ratios=[CELL + 0.3, CELL * count + 0.3][1 - above :], squeeze=False)
    if data is not None:
        _sheet(parts[0, 0], data[:columns], 1, columns, "images of the data")
    _sheet(parts[-1, 0], samples, count, columns, title)
    save_figure(figure, path)


def _sheet(figure: SubFigure, images: Tensor, rows: int, columns: int, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for number, ax in enumerate(axes):
        _blank(ax)
        if number < len(images):
            _show(ax, images[number])
        else:
            ax.set_visible(False)


def picture_inpainting(shown: Inpainting, path: Path, title: str) -> None:
    """One row for each image: original, the hidden part marked, the conditional mean, and the conditional samples.

    **Raises** `ImportError` without matplotlib.
    """
    images, samples = len(shown.original), len(shown.samples)
    names = ["original", "visible", "mean", *(f"sample {i + 1}" for i in range(samples))]
    figure = new_figure(CELL * len(names) + 0.2, CELL * images + 0.65)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(images, len(names), squeeze=False)
    for row in range(images):
        columns = [shown.original[row], shown.original[row], shown.mean[row], *shown.samples[:, row]]
        for name, ax, image in zip(names, axes[row], columns, strict=True):
            _blank(ax)
            _show(ax, image)
            if name == "visible":
                _cover(ax, shown.visible.expand(shown.original.shape)[row])
            if row == 0:
                ax.set_title(name, fontsize=9, color=GREY)
    save_figure(figure, path)


def _show(ax: Axes, image: Tensor) -> None:
    ax.imshow(image.clamp(0, 1).cpu().numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _cover(ax: Axes, visible: Tensor) -> None:
    """Paint the hidden pixels in a colour of their own."""
    from matplotlib.colors import ListedColormap
    from numpy import ma

    hidden = ma.masked_where(visible.cpu().numpy(), visible.cpu().numpy())
    ax.imshow(hidden, cmap=ListedColormap([HIDDEN]), interpolation="nearest")


def _blank(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
