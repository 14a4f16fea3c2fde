"""`check_structure`: whether a circuit of any builder keeps what the library promises of circuits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError
from pcircuits.io import load, save
from pcircuits.networkx import to_networkx
from pcircuits.program.rewrites import DEFAULT
from pcircuits.testing.agreement import Agreement
from pcircuits.testing.chi_square import chi_square
from pcircuits.testing.drawing.values import draw_rows
from pcircuits.testing.oracle import LEAVES, Build, Enumeration, Oracle

__all__ = ["check_structure"]

ENUMERABLE = 5000
"""How many assignments the samples of a circuit are counted over."""


def check_structure(
    circuit: Circuit,
    *,
    types: Iterable[type] = (),
    leaves: Mapping[str, Build] = LEAVES,
    rows: int = 4,
    draws: int = 2000,
    seed: int = 0,
) -> None:
    """Check a normalised circuit: its properties, every query against the oracle under every rewrite, files, graphs.

    Meant for a small instance of a structure: the oracle takes some microseconds for each unit, row and variable. What is
    enumerable (no densities, at most 5,000 assignments) also has its samples counted.

    **Arguments**

    - `types`: families and sources of your own, as for `pcircuits.load`.
    - `leaves`: how the oracle builds the leaves of families that are not the library's.
    - `rows`: how many rows of evidence to ask about.
    - `draws`: how many samples to count; the test rejects one correct circuit in 10,000.
    - `seed`: of the rows and samples.

    **Raises** `AssertionError` that names what differs; `PropertyError` where the circuit lacks a property.

    >>> import pcircuits as pc
    >>> check_structure(pc.Circuit(pc.mixture([0.25, 0.75], pc.Bernoulli(["a", "b"], [[0.1, 0.8]]).prod())))
    """
    _has_its_properties(circuit)
    oracle, numbers = Oracle(circuit, leaves), np.random.default_rng(seed)
    x = draw_rows(oracle, rows, numbers)
    with torch.no_grad():
        _answers_under_every_rewrite(oracle, x, seed)
        _keeps_its_answers_in_files(circuit, x, types)
        _keeps_its_answers_when_compiled(circuit, x)
        _is_a_graph(circuit)
        _samples_follow(circuit, leaves, draws, seed)


def _has_its_properties(circuit: Circuit) -> None:
    verdicts = circuit.check()
    for verdict in (verdicts.smooth, verdicts.decomposable, verdicts.homogeneous, verdicts.normalised):
        verdict.require("check_structure", "A structure's circuits are normalised: see pcircuits.normalise.")


def _answers_under_every_rewrite(oracle: Oracle, x: Tensor, seed: int) -> None:
    """All rewrites, none, and each alone; in single precision, and one row at a time."""
    ways: list[tuple[str, torch.dtype, Collection[str] | None, int | None]] = [
        ("all rewrites", torch.float64, None, None),
        ("no rewrites", torch.float64, (), None),
        *((f"{name} alone", torch.float64, (name,), None) for name in DEFAULT),
        ("chunks of one", torch.float64, None, 1),
        ("float32", torch.float32, None, None),
    ]
    for name, dtype, rewrites, memory in ways:
        model = oracle.circuit.compile(dtype=dtype, rewrites=rewrites, memory=memory)
        try:
            _answers(Agreement(model, oracle), x.to(dtype), seed)
        except AssertionError as error:
            raise AssertionError(f"compiled with {name}: {error}") from error


def _answers(agreement: Agreement, x: Tensor, seed: int) -> None:
    """Every query, given every possible row."""
    agreement.log_prob(x)
    generator = torch.Generator().manual_seed(seed)
    roots = agreement.oracle.circuit.num_roots
    all_rows = [agreement.oracle.row(row) for row in x.double().tolist()]
    for number, known in enumerate([{}, *(row for row in all_rows if agreement.possible(row))]):
        root, other = number % roots, all_rows[number % len(all_rows)]
        asked = {label: value for label, value in other.items() if label not in known}
        agreement.conditional(known, asked, root)
        agreement.box({}, other, known, root)
        agreement.box(other, {}, known, root)
        agreement.statistics(known, root)
        agreement.posteriors(known, root)
        agreement.samples(known, 10, generator, root)
        agreement.completion(known, root)


def _same(circuit: Circuit, other: Circuit, x: Tensor, what: str) -> None:
    if other.variables != circuit.variables:
        raise AssertionError(f"{what} has the variables {other.variables}, not {circuit.variables}")
    want, got = (c.compile(dtype=torch.float64).log_prob(x) for c in (circuit, other))
    if not bool(((want == got) | ((want - got).abs() <= 1e-9 * want.abs().clamp(min=1.0))).all()):
        raise AssertionError(f"log_prob of {what} is {got.tolist()}, not {want.tolist()}")


def _keeps_its_answers_in_files(circuit: Circuit, x: Tensor, types: Iterable[type]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "circuit.pc"
        save(circuit, path)
        _same(circuit, load(path, types), x, "the circuit that was saved and loaded")


def _keeps_its_answers_when_compiled(circuit: Circuit, x: Tensor) -> None:
    _same(circuit, circuit.compile(dtype=torch.float64).to_circuit(), x, "compile().to_circuit()")


def _is_a_graph(circuit: Circuit) -> None:
    """Without cycles, every unit over the union of its children's scopes, with the units and edges of the summary."""
    graph = to_networkx(circuit)
    if not nx.is_directed_acyclic_graph(graph):
        raise AssertionError("to_networkx(circuit) has a cycle")
    scopes = {unit: frozenset(json.loads(scope)) for unit, scope in graph.nodes(data="scope")}
    for unit, scope in scopes.items():
        below = [scopes[child] for child in graph.successors(unit)]
        if below and frozenset().union(*below) != scope:
            raise AssertionError(f"{unit} has the scope {set(scope)}, and its children another")
    summary = circuit.summary()
    found = (graph.number_of_nodes(), graph.number_of_edges(), len(json.loads(graph.graph["roots"])))
    if found != (summary.units, summary.edges, circuit.num_roots):
        raise AssertionError(
            f"to_networkx(circuit) has (units, edges, roots) {found}, and the circuit "
            f"{(summary.units, summary.edges, circuit.num_roots)}"
        )


def _samples_follow(circuit: Circuit, leaves: Mapping[str, Build], draws: int, seed: int) -> None:
    """Chi-square over all assignments, for every root, alone and given one variable, where there are few enough."""
    model = circuit.compile(dtype=torch.float64)
    for root in range(circuit.num_roots):
        try:
            table = Enumeration(circuit, root, leaves, ENUMERABLE).enumerate()
        except CircuitError:
            return
        ends = sorted({0, len(circuit.variables) - 1})
        for known in ({}, *({v: _rarest(table, v)} for v in ends)):  # what is rare moves posteriors the most
            agreeing = {row: p for row, p in table.items() if all(row[v] == value for v, value in known.items())}
            named = {circuit.variables[v]: value for v, value in known.items()}
            drawn = model.root(root).given(named).sample(draws, torch.Generator().manual_seed(seed + root))[:, 0]
            pvalue = _pvalue(drawn, agreeing)
            if pvalue < 1e-4 / 3 / circuit.num_roots:
                raise AssertionError(
                    f"samples from root {root} given {named or 'nothing'} do not follow the circuit (p = {pvalue:.2g})"
                )


def _rarest(table: Mapping[tuple[float, ...], float], variable: int) -> float:
    """The least probable of a variable's possible values."""
    masses: dict[float, float] = {}
    for row, p in table.items():
        masses[row[variable]] = masses.get(row[variable], 0.0) + p
    return min((value for value, mass in masses.items() if mass > 0), key=masses.__getitem__)


def _pvalue(drawn: Tensor, table: Mapping[tuple[float, ...], float]) -> float:
    """Of rows (n, D) against the probabilities, up to a factor, of all that there can be."""
    places = {assignment: place for place, assignment in enumerate(table)}
    counts = np.zeros(len(table))
    for row in drawn.tolist():
        if tuple(row) not in places:
            return 0.0
        counts[places[tuple(row)]] += 1
    expected = np.fromiter(table.values(), float)
    return chi_square(counts, expected * len(drawn) / expected.sum())
