"""Rewrites of plans: each leaves every answer unchanged, and each can be switched off."""

from __future__ import annotations

from collections.abc import Callable

from pcircuits.program.plan import Plan
from pcircuits.program.rewrites.chain import chain
from pcircuits.program.rewrites.fold import fold
from pcircuits.program.rewrites.fuse import fuse
from pcircuits.program.rewrites.layout import layout
from pcircuits.program.rewrites.merge import merge
from pcircuits.program.rewrites.prune import prune

__all__ = ["DEFAULT", "REWRITES", "prune"]

REWRITES: tuple[tuple[str, Callable[[Plan], Plan]], ...] = (
    ("fuse", merge),
    ("fold", fold),
    ("chain", chain),
    ("fold", fold),
    ("fuse", fuse),
    ("layout", layout),
)
"""The rewrites of plans under the names that switch them off, in the order in which they are applied."""

DEFAULT: tuple[str, ...] = ("fold", "fuse", "chain", "layout", "chunk")
"""All of them; "chunk" cuts batches and columns to the bound on memory when the program runs."""
