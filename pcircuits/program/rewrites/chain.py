"""Chain: layers that read only one another, such as the steps of a hidden Markov model, become one layer."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pcircuits.program.plan import Edges, Index, Node, Owned, Plan

__all__ = ["LEAST", "chain"]

LEAST = 3
"""How many steps are worth a layer of their own."""


@dataclass(frozen=True)
class _Link:
    """How a product node hangs together with one below it: each row is one sum, of a row below, times other factors."""

    product: int
    sums: int
    below: int | None
    """The node that the sums read, where they read all of it, and nothing else does: a step may be below this one."""
    place: Index
    """(R,): which factor of each row is the sum."""

    def alike(self, nodes: list[Node]) -> Hashable:
        """What the steps of one chain agree in."""
        sums = nodes[self.sums]
        return sums.width, sums.rows["weights"].kind(), nodes[self.product].edges()[0].rows.shape


def chain(plan: Plan) -> Plan:
    """The plan in which runs u_s = e_s · (W_s u_{s−1}) of R rows each are one node.

    All R rows of a product node must be read by a node of square dense sums, and by nothing else, and all rows of this
    one by the next product node; the lowest sums may read any rows. The node of a run has R rows for each step, from the
    lowest to the highest; where e_s are several factors, a node of their products comes before it.
    """
    links = _links(plan)
    used: set[int] = set()
    made: dict[int, list[_Link]] = {}
    for number in reversed(range(len(plan.nodes))):
        if number in links and number not in used:
            run = [links[number]]
            while (below := links.get(run[-1].below)) is not None and below.alike(plan.nodes) == run[0].alike(
                plan.nodes
            ):
                run.append(below)
            used.update(link.product for link in run)
            if len(run) >= LEAST:
                made[number] = run
    return _rewritten(plan, made) if made else plan


def _links(plan: Plan) -> dict[int | None, _Link]:
    """For each product node that can be a step, what is below it."""
    readers, owner = plan.readers(), plan.owners()
    good = np.zeros(plan.total_rows, bool)
    for node in plan.nodes:
        if node.kind == "sum" and node.edges()[0].columns is None and 1 < node.width == node.facts["inputs"]:
            good[node.first : node.first + node.count] = readers[node.first : node.first + node.count] == 1
    links: dict[int | None, _Link] = {}
    for number, node in enumerate(plan.nodes):
        if node.kind == "product" and (edges := node.edges()[0]).columns is None and edges.rows.shape[1] > 1:
            for sums in reversed(np.unique(owner[edges.rows[good[edges.rows]]]).tolist()):
                place = _place(plan.nodes, owner, good, number, sums)
                if place is not None:
                    links[number] = _Link(number, sums, _below(plan.nodes, owner, readers, sums), place)
                    break
    return links


def _place(nodes: list[Node], owner: Index, good: NDArray[np.bool_], number: int, sums: int) -> Index | None:
    """Which factor of each row of a product node is in a node of sums, where each has one, and they are all of its rows."""
    rows = nodes[number].edges()[0].rows
    here = (owner[rows] == sums) & good[rows]
    return here.argmax(1) if nodes[sums].count == len(rows) and (here.sum(1) == 1).all() else None


def _below(nodes: list[Node], owner: Index, readers: Index, sums: int) -> int | None:
    """The node that a node of sums reads, where the sums read all of its rows, and nothing else reads them."""
    children = nodes[sums].edges()[0].rows[:, 0]
    below = int(owner[children[0]])
    whole = nodes[below].count == len(children) and (owner[children] == below).all() and (readers[children] == 1).all()
    return below if whole else None


def _rewritten(plan: Plan, runs: dict[int, list[_Link]]) -> Plan:
    """The plan with a node for each run, in the place of its highest product.

    Rows of sums have no place of their own in it: what asks for one finds the row of its product, which has one sum. The
    numbers that they had before stand for the products of other factors, where there are several.
    """
    gone = {node for run in runs.values() for link in run for node in (link.product, link.sums)}
    of_sum = np.arange(plan.total_rows)
    nodes, moved = [], []
    for number, node in enumerate(plan.nodes):
        if number not in runs:
            if number not in gone:
                nodes.append(node)
                moved.append(node.first + np.arange(node.count))
            continue
        products, sums, others, start, weights = _steps(plan.nodes, runs[number])
        of_sum[sums] = products
        factors = Edges(others)
        if others.shape[1] > 1:
            nodes.append(replace(node, count=len(sums), rows={"edges": factors}))
            moved.append(sums)
            factors = Edges(sums.reshape(-1, 1))
        rows = {"start": Edges(start.reshape(-1, 1)), "factors": factors, "weights": weights}
        facts = {"parallel": node.count}
        nodes.append(Node("chain", node.first, len(products), node.width, rows, facts))
        moved.append(products)
    renamed = replace(plan, now=np.where(plan.now < 0, -1, of_sum[plan.now]))
    return renamed.reordered(nodes, moved)


def _steps(nodes: list[Node], run: list[_Link]) -> tuple[Index, Index, Index, Index, Owned]:
    """From the lowest step to the highest, R rows each: products, sums, other factors (n·R, A), the start, and weights."""
    products, sums, others, weights = [], [], [], []
    rows = nodes[run[0].product].first + np.arange(nodes[run[0].product].count)
    for link in run:
        product, below = nodes[link.product], nodes[link.sums]
        local = rows - product.first
        factors, place = product.edges()[0].rows[local], link.place[local]
        rest = np.arange(factors.shape[1]) != place[:, None]
        of_sums = factors[~rest]
        products.append(rows)
        sums.append(of_sums)
        others.append(factors[rest].reshape(len(rows), -1))
        weights.append(below.rows["weights"].take(of_sums - below.first))
        rows = below.edges()[0].rows[of_sums - below.first, 0]
    first, *following = reversed(weights)
    joined = first.joined(following)
    assert isinstance(joined, Owned)
    return (*(np.concatenate(parts[::-1]) for parts in (products, sums, others)), rows, joined)  # type: ignore[return-value]
