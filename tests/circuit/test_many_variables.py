"""Circuits of very many variables: what is asked of their scopes costs no more than a few numbers for each variable."""

import itertools
import random
import tracemalloc

import pytest

import pcircuits as pc
from pcircuits.circuit.scopes import ScopeTable

MANY = 50_000


def peak_of(call):
    """The result of a call, and the bytes of Python's memory that it took at most."""
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


def test_factorised():
    units = pc.Normal(range(MANY), 0.0, 1.0)
    circuit, peak = peak_of(lambda: pc.Circuit(units.prod()))
    assert peak < 1000 * MANY  # bits of every scope would be MANY**2 / 8 bytes: 312 MB
    checked, peak = peak_of(lambda: [circuit.check().smooth.holds, circuit.check().decomposable.holds])
    assert peak < 1000 * MANY
    assert checked == [True, True]
    assert circuit.variables == tuple(range(MANY))
    assert circuit.scope(units, 7) == {7}
    assert circuit.scope(circuit.root) == set(range(MANY))


def test_hierarchies_of_groups():
    shuffled = random.Random(0).sample(range(2**14), 2**14)
    leaves = pc.Normal(shuffled, 0.0, 1.0)

    def build():
        units = leaves
        while units.regions > 1:
            units = units.prod([[i, i + 1] for i in range(0, units.regions, 2)])
        return pc.Circuit(units)

    circuit, peak = peak_of(build)
    assert peak < 80e6
    assert circuit.check().decomposable
    pairs = circuit.products[0]
    assert circuit.scope(pairs, 3) == {shuffled[6], shuffled[7]}


def test_a_clash_among_many_is_shown():
    units = pc.Normal([*range(5000), 77], 0.0, 1.0)
    verdict = pc.Circuit(units.prod()).check().decomposable
    assert str(verdict) == "decomposable: no (Product(1, 1), region 0: two of its factors share {77})"
    assert verdict.witness.scopes == ({77}, {77})
    groups = units.prod([range(2500), [*range(2500, 5000), 5000]])
    verdict = pc.Circuit(groups.prod()).check().decomposable
    assert "two of its factors share {77}" in str(verdict)
    assert verdict.witness.scopes == (set(range(2500)), {77, *range(2500, 5000)})


def test_different_scopes_among_many_are_shown():
    units = pc.Normal(range(5000), 0.0, 1.0)
    one, other = units[:4999].prod(), units[1:].prod()
    verdict = pc.Circuit(0.5 * one + 0.5 * other).check().smooth
    assert verdict.witness.variables == {0, 4999}
    assert "{0, 1, 2, 3, 4, 5, ... 4999 in all}" in str(verdict)


def test_marginals_of_many():
    circuit = pc.Circuit(pc.Normal(range(5000), 0.0, 1.0).prod())
    assert pc.marginalize(circuit, range(1, 5000)).variables == (0,)


@pytest.mark.parametrize("count", [1, 3, 64, 2048, 2049, 5000])
def test_numbers_of_scopes_are_those_of_sets(count):
    """Unions, sizes, labels and equality against Python's sets, on both sides of where bits become positions."""
    rng = random.Random(count)
    labels = [f"v{i}" for i in range(count)]
    table = ScopeTable(labels)
    known = {0: frozenset()} | {table.of([label]): frozenset([label]) for label in labels}
    for _ in range(200):
        parts = rng.choices(list(known), k=rng.choice([1, 2, 3, min(40, count), min(1000, count)]))
        number = table.union(parts)
        want = frozenset().union(*(known[part] for part in parts))
        assert known.setdefault(number, want) == want
        assert set(table.labels(number)) == want
        assert table.sizes[number] == len(want)
        assert number == table.of(rng.sample(sorted(want), len(want)))
    assert len(set(known.values())) == len(known)
    some = rng.sample(labels, (count + 1) // 2)
    assert {n for n, meets in enumerate(table.meeting(some)) if meets} == {n for n in known if known[n] & set(some)}


def test_bits_of_scopes_are_in_the_order_of_the_columns():
    units = pc.Normal([3, 1, 2], 0.0, 1.0)
    circuit = pc.Circuit(units.prod())
    assert circuit.region_scopes(units) == [0b100, 0b001, 0b010]
    for scope in itertools.chain(*map(circuit.region_scopes, circuit.arrays)):
        assert circuit.labels(scope)
