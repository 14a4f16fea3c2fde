"""LearnSPN: products of columns that are independent, sums over clusters of rows, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from scipy import stats
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pcircuits.circuit.algebra import mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Categorical, Normal
from pcircuits.circuit.units import Product, Units
from pcircuits.errors import EvidenceError
from pcircuits.families.fields import integer, share
from pcircuits.parameters import Parameter, simplex
from pcircuits.scope import Variable
from pcircuits.structures.clusters import cluster_states
from pcircuits.structures.information import StateInformation
from pcircuits.structures.tables import Table, as_table

__all__ = ["SPNReport", "learn_spn"]


@dataclass(frozen=True)
class SPNReport:
    """How many sums, products and leaves were made."""

    sums: int
    products: int
    leaves: int


@dataclass
class _Part:
    """Some rows of some columns; what it was cut into, and the shares of its parts where it is a sum."""

    rows: Tensor
    columns: list[int]
    clustered: bool = False
    parts: list[_Part] = field(default_factory=list)
    shares: Tensor | None = None


def learn_spn(
    data: object,
    *,
    discrete: Sequence[Variable] | None = None,
    least_rows: int = 100,
    significance: float = 1e-4,
    bins: int = 5,
    pseudocount: float = 0.1,
    minimum_scale: float = 1e-3,
    variables: Sequence[Variable] | None = None,
    generator: torch.Generator,
) -> tuple[Circuit, SPNReport]:
    """A circuit by cutting a table: into columns that a G-test finds independent, else into two clusters of rows.

    Two columns are dependent where G = 2 N I of their states, or of bins of equally many rows, is too large for a χ²
    distribution. Connected columns stay together. Parts of few rows are products of leaves.

    **Arguments**

    - `data`: (B, D); NaN is missing: a pair of columns is judged by the rows that know both.
    - `discrete`: the columns of states, integers from 0; by default those that hold nothing else. The others are Normal.
    - `least_rows`: parts with fewer rows are not cut by clusters.
    - `significance`: the share of independent pairs that a test may take for dependent, in [0, 1).
    - `bins`: of columns of real numbers, for the test.
    - `pseudocount`: added to every count of a state.
    - `minimum_scale`: the least standard deviation of a leaf, in those of its column.
    - `variables`: the labels of the columns, as in `chow_liu_tree`.
    - `generator`: what clusters start from.

    **Raises** `EvidenceError` for columns of which nothing is known.

    **Source**: Gens and Domingos 2013, *Learning the structure of sum-product networks*, algorithm 1.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(500, 2, generator=g)
    >>> circuit, report = learn_spn(torch.cat([x, x[:, :1] + 0.1 * torch.randn(500, 1, generator=g)], 1), generator=g)
    >>> report.products > 0, report.sums > 0  # the second column is apart from the others, which depend on each other
    (True, True)
    """
    least_rows, bins = integer(least_rows, "least_rows", least=2), integer(bins, "bins", least=2)
    significance = share(significance, "significance")
    learner = _Learner(as_table(data, variables), discrete, bins, pseudocount, minimum_scale)
    root = _Part(torch.arange(len(learner.table.values)), list(range(len(learner.table.variables))))
    waiting, order = [root], []
    while waiting:
        part = waiting.pop()
        order.append(part)
        learner.cut(part, least_rows, significance, generator)
        waiting += part.parts
    made: dict[int, Units] = {}
    for part in reversed(order):
        made[id(part)] = learner.units(part, [made[id(inner)] for inner in part.parts])
    sums = sum(part.shares is not None for part in order)
    leaves = sum(len(part.columns) for part in order if not part.parts)
    report = SPNReport(sums, sum(len(part.columns) > 1 for part in order) - sums, leaves)
    return Circuit(made[id(root)], learner.table.variables), report


class _Learner:
    """A table, its columns as states for tests, and in one scale for clusters."""

    def __init__(
        self, table: Table, discrete: Sequence[Variable] | None, bins: int, pseudocount: float, minimum_scale: float
    ) -> None:
        self.table, self.pseudocount = table, pseudocount
        values = table.values.double()
        self.data = values if table.known is None else values.masked_fill(~table.known, torch.nan)
        self.codes, self.scaled = self.data.clone(), self.data.clone()
        self.states: list[int] = []
        self.least: list[float] = []
        for number, label in enumerate(table.variables):
            known, rows = table.column(number)
            known = known.double().contiguous()
            if not len(known):
                raise EvidenceError(f"nothing is known of column {label!r}: leave it out")
            whole = bool(((known >= 0) & (known == known.floor())).all())
            chosen = whole if discrete is None else label in discrete
            self.states.append(int(known.max()) + 1 if chosen else 0)
            spread = float(known.std(correction=0)) or 1.0
            self.least.append(minimum_scale * spread)
            self.scaled[rows, number] = (known - known.mean()) / spread
            if not chosen:
                levels = torch.quantile(known[:100_000], torch.linspace(0, 1, bins + 1).double()[1:-1])
                self.codes[rows, number] = torch.bucketize(known, torch.unique(levels), right=True).double()

    def cut(self, part: _Part, least_rows: int, significance: float, generator: torch.Generator) -> None:
        """Cut a part into independent columns; else into clusters of rows; else into single columns."""
        if len(part.columns) == 1:
            return
        groups = [[column] for column in part.columns]
        if len(part.rows) >= least_rows:
            groups = self._independent(part, significance)
        if len(groups) > 1:
            part.parts = [_Part(part.rows, group) for group in groups]
            return
        everything = [dict.fromkeys(range(len(part.columns)), 1.0)]
        states = cluster_states(self.scaled[part.rows][:, part.columns], everything, 2, generator=generator)[:, 0]
        rows = [part.rows[states == state] for state in (0, 1)]
        if min(len(some) for some in rows) == 0:
            part.parts = [_Part(part.rows, [column]) for column in part.columns]
            return
        part.parts = [_Part(some, part.columns) for some in rows]
        part.shares = torch.tensor([len(some) for some in rows]).double() / len(part.rows)

    def _independent(self, part: _Part, significance: float) -> list[list[int]]:
        """The columns in groups between which no pair is dependent."""
        codes = self.codes[part.rows][:, part.columns]
        known = (~codes.isnan()).double()
        information = StateInformation()(as_table(codes), None)
        sizes = torch.tensor([len(torch.unique(column[~column.isnan()])) for column in codes.unbind(1)]).double()
        freedom = ((sizes - 1).clamp(min=0).unsqueeze(1) * (sizes - 1).clamp(min=0)).clamp(min=1)
        g = 2 * (known.T @ known) * information
        dependent = stats.chi2.sf(g.numpy(), freedom.numpy()) < significance
        count, group = connected_components(csr_array(dependent), directed=False)
        return [[c for c, own in zip(part.columns, group.tolist(), strict=True) if own == g] for g in range(count)]

    def units(self, part: _Part, inner: list[Units]) -> Units:
        """The unit (1, 1) of a part, of those of its parts."""
        if part.shares is not None:
            return mixture(Parameter(part.shares, simplex), inner)
        return Product(inner) if inner else self._leaf(part.rows, part.columns[0])

    def _leaf(self, rows: Tensor, column: int) -> Units:
        values = self.data[rows, column]
        values = values[~values.isnan()]
        if not len(values):  # nothing is known here: as in the whole column
            values = self.data[:, column][~self.data[:, column].isnan()]
        label = self.table.variables[column]
        if self.states[column]:
            counts = torch.bincount(values.long(), minlength=self.states[column]).double() + self.pseudocount
            return Categorical(label, counts / counts.sum())
        scale = max(float(values.std(correction=0)), self.least[column])
        return Normal(label, float(values.mean()), scale)
