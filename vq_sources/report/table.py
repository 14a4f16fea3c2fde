"""The table of results in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from vq_sources.report.rows import Row, method_name

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["results_table"]


def results_table(rows: Sequence[Row], title: str, caption: str | None = None) -> Table:
    """One table of distilled models, those of one method and weights together; the best of each bpd column is bold.

    **Arguments**

    - `rows`: in the order of the table.
    - `title`, `caption`: above and below it.

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
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, title_style="bold", caption_justify="left")
    table.add_column("codes chosen by")
    table.add_column("weights")
    for name in ("N", "bpd continuous", "bpd discrete", "covered mass", "seconds"):
        table.add_column(name, justify="right")
    best_continuous = min((r.continuous_bpd for r in rows if r.continuous_bpd is not None), default=None)
    best_discrete = min((r.discrete_bpd for r in rows), default=None)
    for _, group in groupby(rows, lambda row: (row.method, row.weights)):
        block = list(group)
        for row in block:
            table.add_row(
                method_name(row.method) if row is block[0] else "",
                row.weights if row is block[0] else "",
                _count(row),
                _bpd(row.continuous_bpd, best_continuous),
                _bpd(row.discrete_bpd, best_discrete),
                f"{row.covered_mass:.3f}",
                f"{row.seconds:.1f}",
                end_section=row is block[-1],
            )
    return table


def _count(row: Row) -> str:
    """N reached, and what was asked for where that is more."""
    return f"{row.reached:,}" if row.reached == row.asked else f"{row.reached:,} of {row.asked:,}"


def _bpd(value: float | None, best: float | None) -> str:
    if value is None:
        return "–"
    return f"[bold]{value:.3f}[/]" if value == best else f"{value:.3f}"
