"""What rounding the parameters of a family to a dtype would destroy, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pcircuits.families.interface import AbstractFamily, Parameters

__all__ = ["lost_by_rounding"]

REMEDY = "compile in float64 (dtype=torch.float64)"

COARSE = 100.0
"""How many times as far as a parameter itself the data around it may be moved, which have a spread of their own."""


def lost_by_rounding(family: AbstractFamily, parameters: Parameters, dtype: torch.dtype) -> str | None:
    """What is lost where float64 parameters are rounded to `dtype`, with the remedy; None where nothing is.

    >>> from pcircuits.families import Indicator
    >>> print(lost_by_rounding(Indicator(), {"state": torch.tensor(2.0**24 + 1, dtype=torch.float64)}, torch.float32))
    Indicator() has a state 16777217, but torch.float32 rounds integers above 16777216: compile in float64 (dtype=torch.float64)
    """
    if dtype == torch.float64:
        return None
    for name, spec in family.parameters.items():
        if spec.constraint.event_ndim:  # a simplex is renormalised, and stays one
            continue
        value = parameters[name].detach()
        rounded = value.to(dtype)
        inside = spec.constraint.admits(rounded) | ~spec.constraint.admits(value)
        if (where := _first(~inside)) is not None:
            return (
                f"{name} of {family} is {value[where].tolist()!r}{_at(where)}, which {dtype} rounds to "
                f"{rounded[where].tolist()!r}, and it {spec.constraint.wants}: {REMEDY}, or measure the variable in other units"
            )
    for name, limit in family.resolution(parameters).items():
        limit, value = torch.broadcast_tensors(limit.detach(), parameters[name].detach())  # type: ignore[no-untyped-call]
        moved = (value.to(dtype).to(value.dtype) - value).abs()
        coarse = 0.5 * torch.finfo(dtype).eps * value.abs() > COARSE * limit
        if (where := _first((moved > limit) | coarse)) is not None:
            old, new = value[where].item(), value[where].to(dtype).item()
            apart = 2.0 ** math.floor(math.log2(abs(old))) * torch.finfo(dtype).eps
            return (
                f"{name} of {family} is {old!r}{_at(where)}, and {new!r} in {dtype}, whose numbers are {apart:.3g} apart "
                f"there, although a shift by {limit[where].item():.3g} matters: {REMEDY}, or measure the variable from "
                "another origin"
            )
    return _largest_state(family, parameters, dtype)


def _largest_state(family: AbstractFamily, parameters: Parameters, dtype: torch.dtype) -> str | None:
    sizes = family.support_sizes(parameters)
    if sizes is None or not sizes.numel():
        return None
    largest, exact = int(sizes.max().item()) - 1, round(2 / torch.finfo(dtype).eps)
    if largest <= exact:
        return None
    return f"{family} has a state {largest}, but {dtype} rounds integers above {exact}: {REMEDY}"


def _first(mask: Tensor) -> tuple[int, ...] | None:
    return tuple(mask.nonzero()[0].tolist()) if bool(mask.any()) else None


def _at(where: tuple[int, ...]) -> str:
    return f" at {list(where)}" if where else ""
