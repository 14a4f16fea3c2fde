"""What the strategies draw: the variety that they promise."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import pcircuits as pc
from pcircuits.circuit.units import Mix, Outer, Product, Sum, Wiring
from pcircuits.families import FAMILIES
from pcircuits.parameters import simplex
from pcircuits.testing import Enumeration, Oracle
from pcircuits.testing.drawing import Seeded, draw_circuit, draw_deterministic
from pcircuits.testing.drawing.ingredients import MAX_ASSIGNMENTS
from pcircuits.testing.strategies import boxes, broken_circuits, circuits, evidence, histogram, is_shared, rows

SAMPLE = settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def drawn(strategy, options=SAMPLE, start=7):
    """Examples of a strategy at a fixed seed."""
    found = []

    @seed(start)
    @options
    @given(strategy)
    def collect(example):
        found.append(example)

    collect()
    return found


@pytest.fixture(scope="module")
def some():
    """300 circuits."""
    return drawn(circuits(max_roots=3))


def test_a_fifth_are_deep_and_shared(some):
    deep = sum(circuit.summary().depth >= 4 and is_shared(circuit) for circuit in some)
    print(histogram(some))
    assert deep >= len(some) / 5


def test_every_kind_of_unit_and_family(some):
    arrays = [array for circuit in some for array in circuit.arrays]
    for kind in (Sum, Mix, Product, Outer, Wiring, pc.Constant, pc.Input):
        assert sum(isinstance(array, kind) for array in arrays) >= 10, kind
    assert any(isinstance(array, Product) and array.groups is not None for array in arrays)
    families = {type(array.family).__name__ for array in arrays if isinstance(array, pc.Input)}
    drawn_at_all = {name for name, family in FAMILIES.items() if any(map(family.members, (-1, 0, 2, 3, 4)))}
    assert families == drawn_at_all
    assert {array.weights.value.ndim for array in arrays if isinstance(array, Sum)} == {1, 2, 3}
    assert {array.weights.value.ndim for array in arrays if isinstance(array, Mix)} == {1, 3}
    assert any(array.regions > 1 and array.width > 1 for array in arrays)


def test_every_kind_of_weight(some):
    weights = [array.weights for circuit in some for array in circuit.sums]
    assert any(bool((w.value == 0).any()) for w in weights)
    assert any(w.constraint is simplex for w in weights)
    assert any(w.constraint is not simplex and abs(w.value.sum() - 1) > 0.1 for w in weights)
    assert any(bool((w.value > 1e9).any()) for w in weights)
    assert any(w.value.dtype == torch.float32 for w in weights)
    assert any(not w.trainable for w in weights)


def test_tied_parameters_labels_columns_and_roots(some):
    def tied(circuit):
        owners = [id(a.weights) for a in circuit.sums]
        owners += [id(p) for a in circuit.inputs for p in a.parameters.values()]
        return len(set(owners)) < len(owners)

    assert sum(map(tied, some)) >= 15  # input units are tied where two of one family meet, and there are many families
    labels = [label for circuit in some for label in circuit.variables]
    assert {type(label) for label in labels} == {int, str}
    assert any(circuit.variables != tuple(sorted(circuit.variables)) for circuit in some)
    assert {circuit.num_roots for circuit in some} == {1, 2, 3}


def test_every_circuit_is_small_has_all_its_variables_and_positive_mass(some):
    for circuit in some:
        assert circuit.scope(circuit.root) == set(circuit.variables)
        oracle = Oracle(circuit)
        assert len(oracle.graph.nodes) < 600
        assert all(oracle.log_value({}, root) > -math.inf for root in range(circuit.num_roots))


def test_finite_circuits_can_be_enumerated():
    for circuit in drawn(circuits(densities=False), settings(SAMPLE, max_examples=40)):
        assert 1 <= len(Enumeration(circuit).log_values) <= 2 * MAX_ASSIGNMENTS  # a variable has two states at least


def test_broken_circuits_break_both_properties():
    assert {what for _, what in drawn(broken_circuits(), settings(SAMPLE, max_examples=30))} == {
        "smooth",
        "decomposable",
    }


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_possible_evidence_is_possible(data):
    circuit = data.draw(circuits(max_roots=2))
    seen = data.draw(evidence(circuit, possible=True))
    assert all(Oracle(circuit).log_value(seen, root) > -math.inf for root in range(circuit.num_roots))


def test_evidence_is_likely_unlikely_and_impossible_complete_and_missing():
    pairs_of = circuits().flatmap(lambda c: st.tuples(st.just(c), evidence(c)))
    # Hypothesis varies what it has drawn before, so that rare things come in clusters: one seed does not tell.
    pairs = [pair for start in (7, 8, 9) for pair in drawn(pairs_of, start=start)]
    values = [Oracle(circuit).log_value(row) for circuit, row in pairs]
    assert sum(value == -math.inf for value in values) >= 10
    assert sum(-math.inf < value < -1000 for value in values) >= 5
    assert sum(value > -20 for value in values) >= 50
    assert any(not row for _, row in pairs)
    assert any(len(row) == len(circuit.variables) > 1 for circuit, row in pairs)


def test_rows_are_batches_with_nan_where_missing():
    circuit = pc.Circuit(pc.Bernoulli(["a", "b"], 0.5).prod())
    batches = drawn(rows(circuit, max_size=3), settings(SAMPLE, max_examples=50))
    assert {batch.shape for batch in batches} == {(1, 2), (2, 2), (3, 2)}
    assert all(batch.dtype == torch.float64 for batch in batches)
    assert any(bool(batch.isnan().any()) for batch in batches)
    seen = torch.cat(batches)
    assert set(seen[~seen.isnan()].tolist()) == {0.0, 1.0}


def test_indicators_alone_leave_a_state_that_is_impossible():
    circuit = pc.Circuit(0.5 * pc.Indicator("a", 0) + 0.5 * pc.Indicator("a", 1))
    values = {row.get("a") for row in drawn(evidence(circuit), settings(SAMPLE, max_examples=50))}
    assert values == {None, 0.0, 1.0, 2.0}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_boxes_have_their_bounds_in_order(data):
    circuit = data.draw(circuits())
    lower, upper = data.draw(boxes(circuit))
    assert all(low <= upper.get(label, math.inf) for label, low in lower.items())


def test_the_histogram(some):
    tree = pc.Circuit(pc.Bernoulli("a", 0.5) * pc.Bernoulli("b", 0.5))
    assert not is_shared(tree)
    assert histogram([tree, tree]).splitlines()[1].split() == ["1", "2", "0"]
    assert histogram(some).splitlines()[-1].startswith("depth >= 4 and shared: ")


def test_the_command_prints_the_histogram():
    printed = subprocess.run(
        [sys.executable, "-m", "pcircuits.testing.strategies", "100"], capture_output=True, text=True, check=True
    ).stdout
    *_, last = printed.splitlines()
    deep, total = (int(n) for n in last.removeprefix("depth >= 4 and shared: ").split(" of "))
    assert total == 100
    assert deep >= total / 5


def test_a_seed_alone_draws_circuits_of_the_same_kind():
    some = [draw_circuit(Seeded(0, i), max_roots=3) for i in range(300)]
    assert sum(circuit.summary().depth >= 4 and is_shared(circuit) for circuit in some) >= 60
    assert all(circuit.check().smooth and circuit.check().decomposable for circuit in some[:50])
    assert [str(c.summary()) for c in some[:5]] == [
        str(draw_circuit(Seeded(0, i), max_roots=3).summary()) for i in range(5)
    ]
    assert all(draw_deterministic(Seeded(0, i)).check().deterministic for i in range(20))
