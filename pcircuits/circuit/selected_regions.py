"""A source restricted to some of its regions: what remains of it when the other variables are summed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pcircuits.parameters import Source, Sourced

__all__ = ["SelectedRegions", "select_regions"]


class SelectedRegions(nn.Module):
    """The parameters that another source makes, for some of its regions.

    **Arguments**

    - `source`: a source of R regions.
    - `regions`: which of them to keep, in which order; ints (R',).
    """

    source: nn.Module
    regions: Tensor

    def __init__(self, source: nn.Module, regions: Sequence[int] | Tensor) -> None:
        super().__init__()
        self.source = source
        self.register_buffer("regions", torch.as_tensor(regions, dtype=torch.int64))

    def parameters_for(self, columns: Int64[Tensor, "n"]) -> dict[str, Tensor]:
        """For columns (n,) int64: each parameter as (R', n, *event)."""
        made = cast(Source, self.source).parameters_for(columns)
        return {name: value[self.regions.to(value.device)] for name, value in made.items()}


def select_regions(sourced: Sourced, regions: Sequence[int]) -> Sourced:
    """Some regions of sourced units; a selection of a selection is one selection."""
    rows = torch.as_tensor(regions, dtype=torch.int64)
    whole = sourced.source
    if isinstance(whole, SelectedRegions):
        return Sourced(SelectedRegions(whole.source, whole.regions.cpu()[rows]), len(rows), sourced.width)
    return Sourced(SelectedRegions(whole, rows), len(rows), sourced.width)
