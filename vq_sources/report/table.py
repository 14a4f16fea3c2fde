"""The table of results in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from vq_sources.report.rows import Row, method_name

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["results_table"]

WEIGHTS = {"bound": "p(z)"}


def results_table(rows: Sequence[Row], title: str, caption: str | None = None) -> Table:
    """One table of distilled models, those of one method and weights together; in each bpd column
    the best but for the exact model is bold.

    **Arguments**

    - `rows`: in the order of the table.
    - `title`, `caption`: above and below it; the caption also explains a mark at an N that was not reached.

    **Raises** `ImportError` without rich.

    >>> row = Row("beam", "prior", 64, 64, 2.75, 2.31, 0.5, 1.0)
    >>> results_table([row], "digits").row_count
    1
    """
    try:
        from rich import box
        from rich.table import Table
    except ImportError as error:
        raise ImportError('The table is drawn by rich: pip install "pcircuits[vq]".') from error
    if any(row.reached < row.asked for row in rows):
        caption = f"{caption or ''} *: more were asked for than there are.".strip()
    table = Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        title_style="bold",
        caption_justify="left",
    )
    table.add_column("codes\nchosen by", no_wrap=True)
    table.add_column("\nweights", no_wrap=True)
    for name in ("N\nreached", "bpd\ncontinuous", "bpd\ndiscrete", "covered\nmass", "\nseconds"):
        table.add_column(name, justify="right", no_wrap=True)
    chosen = [row for row in rows if row.method != "exact"]
    best_continuous = min((r.continuous_bpd for r in chosen if r.continuous_bpd is not None), default=None)
    best_discrete = min((r.discrete_bpd for r in chosen), default=None)
    for _, group in groupby(rows, lambda row: (row.method, row.weights)):
        block = list(group)
        for row in block:
            table.add_row(
                method_name(row.method) if row is block[0] else "",
                WEIGHTS.get(row.weights, row.weights) if row is block[0] else "",
                _count(row),
                _bpd(row.continuous_bpd, best_continuous),
                _bpd(row.discrete_bpd, best_discrete),
                f"{row.covered_mass:.3f}",
                f"{row.seconds:.1f}",
                end_section=row is block[-1],
            )
    return table


def _count(row: Row) -> str:
    """N reached, marked where more were asked for."""
    return f"{row.reached:,}" if row.reached == row.asked else f"{row.reached:,}*"


def _bpd(value: float | None, best: float | None) -> str:
    if value is None:
        return "–"
    return f"[bold]{value:.3f}[/]" if value == best else f"{value:.3f}"
