"""A chain of ten thousand sums: nothing recurses over depth."""

import math
import sys

import pytest

import pcircuits as pc
from pcircuits.testing import Oracle

DEPTH = 10_000


@pytest.fixture(scope="module")
def chain():
    assert sys.getrecursionlimit() < DEPTH
    leaves = [pc.Bernoulli("a", 0.25), pc.Bernoulli("a", 0.75)]
    unit = leaves[0]
    for i in range(DEPTH):
        unit = 0.5 * unit + 0.5 * leaves[i % 2]
    return pc.Circuit(unit)


def test_topological_and_repr(chain):
    assert len(chain.arrays) == DEPTH + 2
    assert repr(chain) == f"Circuit(1 variables, {DEPTH + 2} arrays, 1 root)"
    assert repr(chain.root) == "Mix(1, 1)"


def test_properties(chain):
    verdicts = chain.check()
    assert verdicts.smooth
    assert verdicts.decomposable
    assert verdicts.homogeneous
    assert verdicts.normalised
    assert verdicts.deterministic.holds is False


def test_summary_and_views(chain):
    summary = chain.summary()
    assert (summary.depth, summary.sums, summary.edges) == (DEPTH, DEPTH, 2 * DEPTH)
    assert sum(1 for _ in chain.edges()) == 2 * DEPTH
    assert len(chain.parents(chain.unit(chain.inputs[0]))) == DEPTH // 2 + 1


def test_the_oracle(chain):
    probability = 0.25
    for i in range(DEPTH):
        probability = 0.5 * probability + 0.5 * (0.25, 0.75)[i % 2]
    assert Oracle(chain).log_value({"a": 1}) == pytest.approx(math.log(probability), rel=1e-13)
    assert Oracle(chain).mean()["a"] == pytest.approx(probability, rel=1e-13)


def test_a_chain_of_gated_variables():
    unit = pc.Bernoulli(0, 0.5)
    for i in range(1, 300):
        gate = [pc.Indicator(i, 0), pc.Indicator(i, 1)]
        unit = 0.5 * (gate[0] * unit) + 0.5 * (gate[1] * unit)
    verdicts = pc.Circuit(unit).check()
    assert verdicts.deterministic
    assert verdicts.normalised
