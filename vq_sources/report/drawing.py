"""What all pictures share: figures without global state, files that are whole or absent, and one palette."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from vq_sources.report.document import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GREY", "HIDDEN", "PALETTE", "new_figure", "save_figure"]

PALETTE = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""Okabe and Ito's colours, told apart with any kind of colour vision; the first two are one method's two weights."""
GREY = "#555555"
HIDDEN = "#F0C27B"
"""The colour of pixels that are hidden: none that an image in grey has."""

DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, which pyplot does not know of.

    **Raises** `ImportError` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Pictures are drawn by matplotlib: pip install "pcircuits[vq]".') from error
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the same figure makes the same bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    write_bytes(path, drawn.getvalue())
