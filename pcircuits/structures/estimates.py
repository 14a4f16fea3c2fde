"""Input units of largest likelihood, from rows of data that are assigned to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.circuit.units import Input, Sum, Units, Wiring
from pcircuits.errors import CircuitError, EvidenceError
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced
from pcircuits.structures.tables import Table

__all__ = ["Smoothing", "estimated", "least_scale"]


@dataclass(frozen=True)
class Smoothing:
    """What is added to the rows of a unit.

    - `rows`: so many rows, spread as the whole column is.
    - `pseudocount`: so many rows of every state of a discrete variable, which may be in no row of the column.
    """

    rows: float
    pseudocount: float


def estimated(
    units: Units,
    table: Table,
    columns: Sequence[int],
    states: Callable[[int], Tensor],
    smoothing: Smoothing,
    weights: Tensor | None = None,
) -> Units:
    """The units (R, K) with parameters of largest likelihood, by the M-step of their families.

    Frozen parameters stay as they are.

    **Arguments**

    - `units`: input units, mixtures of input units, or what `concat` made of some. Mixtures start from their components: only
      their weights are estimated.
    - `columns`: for each region, the number of its column in the table.
    - `states`: for the number of a region the unit that each row is assigned to, (B,), integers 0..K-1; -1 for
      none.
    - `weights`: how much each row counts, (B,); 1 unless given.

    **Raises** `CircuitError` for other units, and for parameters that a source makes; `ParameterError` for families without
    an M-step; `EvidenceError` for values that no unit of a family admits.
    """
    return _estimated(units, list(range(units.regions)), _Rows(table, columns, states, weights), smoothing)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The arguments of `estimated` that say which rows of data a unit gets."""

    table: Table
    columns: Sequence[int]
    states: Callable[[int], Tensor]
    weights: Tensor | None

    def of_region(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """The values of a region's column where they and their units are known, (n,), the units, and the weights."""
        values, rows = self.table.column(self.columns[number])
        states = self.states(number)[rows].long()
        weights = torch.ones(len(rows), dtype=torch.float64) if self.weights is None else self.weights[rows]
        if bool((unknown := states < 0).any()):
            values, states, weights = values[~unknown], states[~unknown], weights[~unknown]
        return values, states, weights


def _estimated(units: Units, numbers: Sequence[int | None], rows: _Rows, smoothing: Smoothing) -> Units:
    """`numbers[r]` is what region r of the units is called by the rows; None where nobody reads it."""
    if isinstance(units, Wiring) and units.column is None:
        children = []
        for place, child in enumerate(units.children):
            called: list[int | None] = [None] * child.regions
            for row in (units.child == place).nonzero()[0].tolist():
                called[units.region[row]] = numbers[row]
            children.append(_estimated(child, called, rows, smoothing))
        return Wiring(children, units.child, units.region)
    if isinstance(units, Sum) and isinstance(units.weights, Parameter) and units.weights.trainable:
        return Sum(units.children[0], _shares_of_components(units, numbers, rows, smoothing))
    if not isinstance(units, Input) or isinstance(units.parameters, Sourced):
        raise CircuitError(
            f"only input units that have parameters of their own start from data, not {units!r}: `leaves` may make such "
            "units, or stack some by pcircuits.concat"
        )
    if not any(parameter.trainable for parameter in units.parameters.values()):
        return units
    values = {name: _whole(units, name, parameter) for name, parameter in units.parameters.items()}
    for region, number in enumerate(numbers):
        if number is not None:
            before = {name: value[region] for name, value in values.items()}
            after = _of_region(units.family, before, *rows.of_region(number), smoothing)
            for name, value in after.items():
                values[name][region] = value
    return Input(units.family, units.variables, {n: _replaced(p, values[n]) for n, p in units.parameters.items()})


def _shares_of_components(units: Sum, numbers: Sequence[int | None], rows: _Rows, smoothing: Smoothing) -> Parameter:
    """Weights (R, K, M) of mixtures: the posterior shares of components, of equal prior weights, in the rows of a unit."""
    (child,) = units.children
    weights = units.weights.value.double().expand(units.regions, units.width, child.width).clone()
    for region, number in enumerate(numbers):
        if number is None:
            continue
        family, parameters = _components(child, region)
        values, states, counts = rows.of_region(number)
        distinct, place = torch.unique(values.double(), return_inverse=True)
        x = distinct.view(-1, 1, 1)
        logs = family.log_prob(x, torch.ones_like(x, dtype=torch.bool), parameters)
        if bool((logs == -torch.inf).all(-1).any()):
            bad = distinct[(logs == -torch.inf).all(-1)][0].item()
            raise EvidenceError(f"no component of {family} admits {bad!r}, which is in the data")
        table = torch.bincount(states * len(distinct) + place, counts, units.width * len(distinct))
        shares = table.view(units.width, -1).double() @ torch.softmax(logs.double(), -1)
        whole = shares.sum(0, keepdim=True)
        shares = shares + smoothing.rows * whole / whole.sum().clamp_min(1e-300) + smoothing.pseudocount
        total = shares.sum(-1, keepdim=True)
        weights[region] = torch.where(total > 0, shares / total.clamp_min(1e-300), weights[region])
    return Parameter(weights, units.weights.constraint, name=units.weights.name)


def _components(units: Units, region: int) -> tuple[AbstractFamily, dict[str, Tensor]]:
    """The family and the parameters (M, *event) of the input units of a region."""
    while isinstance(units, Wiring) and units.column is None:
        child, region = int(units.child[region]), int(units.region[region])
        units = units.children[child]
    if not isinstance(units, Input) or isinstance(units.parameters, Sourced):
        raise CircuitError(
            f"only mixtures of input units that have parameters of their own start from data, not {units!r}"
        )
    return units.family, {name: _whole(units, name, p)[region] for name, p in units.parameters.items()}


def _whole(units: Input, name: str, parameter: Parameter) -> Tensor:
    """A parameter's value for every unit, (R, K, *event), in float64."""
    event = parameter.shape[len(parameter.shape) - units.family.parameters[name].event_ndim :]
    return parameter.value.double().expand(*units.shape, *event).clone()


def _replaced(parameter: Parameter, value: Tensor) -> Parameter:
    return Parameter(value, parameter.constraint, name=parameter.name) if parameter.trainable else parameter


def _of_region(
    family: AbstractFamily,
    before: Mapping[str, Tensor],
    values: Tensor,
    states: Tensor,
    weights: Tensor,
    smoothing: Smoothing,
) -> Mapping[str, Tensor]:
    """The parameters of the units of one region, (K, *event)."""
    total = weights.sum()
    if not bool(total > 0):
        return before
    centre = (values.double() @ weights) / total
    statistics, count = _sums(family, before, values, states, weights, centre)
    share = smoothing.rows / total
    return family.m_step(
        [s + share * s.sum(0, keepdim=True) for s in statistics],
        count + smoothing.rows,
        before,
        pseudocount=smoothing.pseudocount,
        minimum_scale=least_scale(family, values),
        centre=centre,
    )


def _sums(
    family: AbstractFamily,
    parameters: Mapping[str, Tensor],
    values: Tensor,
    states: Tensor,
    weights: Tensor,
    centre: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """The statistics of the rows of each unit, (K,) or (K, S), and their numbers, (K,)."""
    width = family.unit_shape(parameters)[0]
    count = torch.bincount(states, weights, width)
    impossible = ~family.support.contains(values.double())
    if bool(impossible.any()):
        raise EvidenceError(f"{family} does not admit {values[impossible][0].item()!r}, which is in the data")
    if isinstance(family, AbstractFinite):  # a table of B by S indicators is not needed
        pairs = torch.bincount(states * family.states + values.long(), weights, width * family.states)
        return [pairs.view(width, family.states)], count
    x, first = values.double().unsqueeze(-1), {name: value[0] for name, value in parameters.items()}
    found = family.expected_statistics(x, torch.ones_like(x, dtype=torch.bool), first, centre)
    return [torch.zeros(width, dtype=s.dtype).index_add(0, states, s * weights) for s in found], count


def least_scale(family: AbstractFamily, values: Tensor) -> float:
    """The smallest scale that a column's numbers can tell from zero, in the units of the family's scale.

    Numbers that are g apart were rounded by up to g / 2, with a standard deviation of g / √12. A density that is narrower
    fits the rounding: its likelihood grows without bound, and that of new data falls. Where numbers are not rounded, g is
    an accident, and the bound is a thousandth of the column's standard deviation. A discretised family has levels that are
    1 / levels apart.

    >>> from pcircuits.families import DiscretizedLogistic, Normal
    >>> round(least_scale(Normal(), torch.tensor([1.0, 1.5, 3.0, 1.0])) * math.sqrt(12), 6)
    0.5
    >>> round(least_scale(DiscretizedLogistic(256), torch.arange(256)) * math.sqrt(12) * 256, 6)
    1.0
    """
    if family.states is not None:
        return 1 / (math.sqrt(12) * family.states)
    ordered = torch.unique(values.double())
    if family.base == "counting" or len(ordered) < 2:
        return 1e-3
    return max(float(ordered.diff().min()) / math.sqrt(12), 1e-3 * float(values.double().std(correction=0)))
