"""The suite for structures on circuits of several builds, and on what is broken on purpose."""

import math

import pytest
import torch

import pcircuits as pc
from pcircuits.testing import Agreement, Oracle, check_structure
from pcircuits.testing.oracle import LEAVES, FiniteLeaf


def simplices(seed, *shape):
    value = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3 + 0.01
    return value / value.sum(-1, keepdim=True)


def chain():
    """A hidden Markov model of four steps and two states."""
    emissions = pc.Categorical(range(4), simplices(0, 4, 2, 3))
    hidden = emissions[3]
    for t in (2, 1, 0):
        hidden = emissions[t] * hidden.sum(pc.Parameter(simplices(t, 2, 2), pc.simplex))
    return pc.Circuit(hidden.sum(simplices(5, 2)))


def quad():
    """Two cuts of a 2 × 2 image, with Tucker layers and mixing, and a root for each of two classes."""
    pixels = pc.Bernoulli(range(4), simplices(6, 4, 2)).sum(simplices(7, 4, 2, 2))
    rows = pixels[[0, 2]].outer(pixels[[1, 3]]).sum(simplices(8, 2, 2, 4)).prod()
    columns = pixels[[0, 1]].outer(pixels[[2, 3]]).sum(simplices(9, 2, 2, 4)).prod()
    return pc.Circuit(pc.mixture([0.4, 0.6], [rows, columns]).sum(simplices(10, 2, 2)))


def gated():
    """Deterministic, with densities."""
    pairs = [pc.Normal("x", loc, 0.5) * pc.DiscretizedNormal("y", 0.3, 0.2, levels=4) for loc in (-1.0, 2.0)]
    return pc.Circuit(0.3 * (pc.Indicator("gate", 0) * pairs[0]) + 0.7 * (pc.Indicator("gate", 1) * pairs[1]))


@pytest.mark.parametrize("make", [chain, quad, gated], ids=lambda make: make.__name__)
def test_structures_conform(make):
    check_structure(make())


def test_a_circuit_that_is_not_normalised_is_refused():
    with pytest.raises(pc.PropertyError, match="normalised"):
        check_structure(pc.Circuit(0.5 * pc.Bernoulli("a", 0.5) + 0.6 * pc.Bernoulli("a", 0.1)))


def off_by_a_little(family, values):
    p = values["probs"]
    return FiniteLeaf({0: math.log(1 - p), 1: math.log(p) + 1e-6})


def test_wrong_answers_are_noticed_and_the_way_of_compiling_is_named():
    circuit = pc.Circuit(pc.Bernoulli("a", 0.5) * pc.Bernoulli("b", 0.25))
    with pytest.raises(AssertionError, match=r"compiled with all rewrites: .*log_prob is -"):
        check_structure(circuit, leaves={**LEAVES, "Bernoulli": off_by_a_little}, rows=8)


def test_samples_of_another_distribution_are_noticed(monkeypatch):
    draw = pc.families.Bernoulli.draw

    def biased(self, parameters, generator):
        return draw(self, {"probs": parameters["probs"] ** 1.2}, generator)

    circuit = pc.Circuit(pc.Bernoulli(["a", "b"], [[0.5, 0.2]]).prod().sum([0.5, 0.5]))
    monkeypatch.setattr(pc.families.Bernoulli, "draw", biased)
    with pytest.raises(AssertionError, match="samples from root 0 given nothing do not follow"):
        check_structure(circuit)


def test_samples_that_forget_what_is_given_are_noticed(monkeypatch):
    """Prior samples, with what is given put in place: right where nothing is given."""
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.Bernoulli(["a", "b"], [[0.1, 0.9], [0.2, 0.8]]).prod()))
    prior = circuit.compile(dtype=torch.float64)

    def forgetful(self, n, generator=None):
        known = self.known()
        drawn = prior.sample(n, generator).unsqueeze(1)
        return torch.where(known.observed, known.x, drawn)

    monkeypatch.setattr(pc.Conditioned, "sample", forgetful, raising=False)
    with pytest.raises(AssertionError, match=r"given \{'a': \d.0\} do not follow"):
        check_structure(circuit)


def test_a_file_that_brings_back_another_circuit_is_noticed(monkeypatch):
    other = pc.Circuit(pc.Bernoulli("a", 0.25))
    monkeypatch.setattr("pcircuits.testing.structures.load", lambda path, types: other)
    with pytest.raises(AssertionError, match="saved and loaded"):
        check_structure(pc.Circuit(pc.Bernoulli("a", 0.5)), rows=8)


@pytest.mark.parametrize("query", ["mean", "variance", "moment"])
def test_agreement_names_the_query_that_differs(query, monkeypatch):
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.Bernoulli("a", [0.1, 0.7])))
    agreement = Agreement(circuit.compile(dtype=torch.float64), Oracle(circuit))
    right = getattr(pc.Conditioned, query)
    monkeypatch.setattr(pc.Conditioned, query, lambda self, *order: right(self, *order) + 1e-6, raising=False)
    with pytest.raises(AssertionError, match=query):
        agreement.statistics({})


def test_agreement_on_bounds_and_completions(monkeypatch):
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.Bernoulli(["a", "b"], [[0.1, 0.8]]).prod()))
    agreement = Agreement(circuit.compile(dtype=torch.float64), Oracle(circuit))
    agreement.completion({"a": 1.0})
    agreement.box({"a": 1.0}, {"b": 0.0}, {})
    agreement.posteriors({"b": 0.0})
    at = [torch.tensor([agreement.oracle.log_value({"a": v, "b": v})], dtype=torch.float64) for v in (0.0, 1.0)]
    zeros, ones, exact = torch.zeros(1, 2).double(), torch.ones(1, 2).double(), torch.tensor([True])
    for found, message in (
        (pc.Completion(zeros, at[0] - 1, at[0], exact), "map's log_prob"),
        (pc.Completion(zeros, at[0], at[0] - 1, exact), "upper bound"),
        (pc.Completion(ones, at[1], at[0], exact), "map is called exact"),
    ):
        monkeypatch.setattr(pc.Conditioned, "map", lambda self, exact, found=found: found)
        with pytest.raises(AssertionError, match=message):
            agreement.completion({})
