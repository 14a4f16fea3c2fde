"""Rewrites of lowered programs: each leaves every answer unchanged, and each can be switched off."""

from __future__ import annotations

from collections.abc import Callable

from pcircuits.program.operations import Lowered
from pcircuits.program.rewrites.fold import fold
from pcircuits.program.rewrites.fuse import fuse
from pcircuits.program.rewrites.layout import layout

__all__ = ["DEFAULT", "REWRITES"]

REWRITES: dict[str, Callable[[Lowered], Lowered]] = {"fold": fold, "fuse": fuse, "layout": layout}
"""The rewrites of operations, in the order in which they are applied."""

DEFAULT: tuple[str, ...] = ("fold", "fuse", "layout", "chunk")
"""All of them; "chunk" cuts batches and columns to the bound on memory when the program runs."""
