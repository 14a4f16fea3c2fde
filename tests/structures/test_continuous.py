"""Continuous mixtures: integrals by quasi-Monte Carlo against a closed form, and what training does to points and nets."""

import io
import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import stats

import pcircuits as pc
from pcircuits import families
from pcircuits import structures as st
from pcircuits.learning import FitSettings, fit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Line(st.AbstractDecoder):
    """x_v = z + noise: a mixture whose integral is a Normal."""

    def __init__(self):
        super().__init__(range(2), 1, 1, ())

    def units(self, points, count):
        return pc.inputs(families.Normal(), self.variables, pc.Sourced(st.Decoded(self, points), 2, count)).prod()

    def made(self, z, part):
        loc = z.t().expand(2, -1)
        return {"loc": loc, "scale": torch.full_like(loc, 0.5)}

    def to_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


def tree_decoder(hidden=(4,), factor=20.0):
    decoder = st.TreeDecoder(nx.Graph([("a", "b"), ("b", "c"), ("b", "d"), ("d", "e")]), 3, 2, hidden, seeded())
    with torch.no_grad():
        decoder.head.mul_(factor)
    return decoder


def test_the_integral_is_right_and_more_points_are_better():
    """z ~ N(0, 1) and x_v = z + N(0, 1/4) are jointly Normal with covariance 1 + [v = w] / 4."""
    x = torch.tensor([[0.3, -0.1], [1.0, 1.5], [-2.0, -1.2]], dtype=torch.float64)
    want = stats.multivariate_normal([0, 0], [[1.25, 1.0], [1.0, 1.25]]).logpdf(x.numpy())
    errors = []
    for points in (8, 64, 512):
        model = st.continuous_mixture(Line(), points).compile(dtype=torch.float64)
        errors.append(np.abs(model.log_prob(x).numpy() - want).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


def test_points_of_a_lattice_are_spread_like_a_normal():
    points = st.SobolPoints(256, 3)()
    torch.testing.assert_close(points.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(points.var(0), torch.ones(3, dtype=torch.float64), atol=0.02, rtol=0)
    assert points.T.corrcoef().fill_diagonal_(0.0).abs().max() < 0.05


def test_shifts_move_all_points_and_are_undone():
    lattice = st.SobolPoints(16, 2)
    before = lattice()
    lattice.shift_by(torch.tensor([0.25, 0.9], dtype=torch.float64))
    uniform = torch.special.ndtr(lattice())
    torch.testing.assert_close(uniform, (torch.special.ndtr(before) - 0.5 / 16 + torch.tensor([0.25, 0.9])) % 1)
    lattice.shift_by(None)
    assert torch.equal(lattice(), before)


def test_trees_are_conditional_tables_by_hand():
    decoder = tree_decoder()
    circuit = st.continuous_mixture(decoder, 4)
    model = circuit.compile(dtype=torch.float64)
    assert circuit.variables == ("a", "b", "c", "d", "e")
    assert circuit.check().normalised
    z = st.SobolPoints(4, 2)().numpy()
    hidden = z
    for weights, shift in zip(decoder.weights, decoder.shifts, strict=True):
        hidden = hidden @ weights.detach().numpy().T + shift.detach().numpy()
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
    raw = (hidden @ decoder.head.detach().numpy().T + decoder.bias.detach().numpy()).reshape(4, 5, 3, 3)
    tables = np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)  # point, variable, state of the parent, state
    parents = {"b": None, "a": "b", "c": "b", "d": "b", "e": "d"}
    assert decoder.parent == parents
    for values in itertools.islice(itertools.product(range(3), repeat=5), 0, None, 17):
        row = dict(zip("abcde", values, strict=True))
        each = [
            math.prod(
                tables[n, decoder.place[v], 0 if above is None else row[above], row[v]] for v, above in parents.items()
            )
            for n in range(4)
        ]
        got = model.log_prob({label: [value] for label, value in row.items()}).item()
        assert got == pytest.approx(math.log(sum(each) / 4), abs=1e-9)


@pytest.mark.parametrize("kind", ["factorised", "tree"])
def test_training_on_shifted_lattices_makes_every_lattice_good(kind):
    generator = seeded(1)
    z = torch.randn(600, 1, generator=generator)
    x = (torch.rand(600, 4, generator=generator) < torch.sigmoid(4 * z)).double()
    if kind == "tree":
        decoder = st.TreeDecoder(nx.path_graph(4), 2, 1, (16,), seeded())
    else:
        decoder = st.FactorisedDecoder(range(4), families.Bernoulli(), 1, (16,), seeded())
    model = st.continuous_mixture(decoder, 32).compile(dtype=torch.float64)
    before = model.log_prob(x).mean().item()
    settings = FitSettings(epochs=15, batch_size=100, learning_rate=0.02)
    fit(model, x[:500], x[500:], settings=settings, loss=st.shifted_lattice)
    after = model.log_prob(x).mean().item()
    assert after > before + 0.3
    single = model.float().to_circuit()
    assert st.continuous_mixture(st.decoder_of(single), 8).check().normalised
    model.double()
    for points in (64, 200):
        other = st.continuous_mixture(st.decoder_of(model), points).compile(dtype=torch.float64)
        assert other.log_prob(x).mean().item() == pytest.approx(after, abs=0.03)
    file = io.BytesIO()
    pc.save(model, file)
    loaded = pc.load(io.BytesIO(file.getvalue())).compile(dtype=torch.float64)
    torch.testing.assert_close(loaded.log_prob(x), model.log_prob(x), atol=1e-12, rtol=0)
    plain = pc.materialise(model.to_circuit())
    torch.testing.assert_close(plain.compile(dtype=torch.float64).log_prob(x), model.log_prob(x), atol=1e-9, rtol=0)


def test_latent_optimisation_moves_points_alone():
    decoder = st.FactorisedDecoder(range(3), families.Bernoulli(), 2, (8,), seeded())
    with torch.no_grad():
        decoder.head.mul_(5.0)
    mixture = st.continuous_mixture(decoder, 4)
    model = st.free_points(mixture).compile(dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64).repeat(20, 1)
    before = model.log_prob(x).mean().item()
    torch.testing.assert_close(model.log_prob(x), mixture.compile(dtype=torch.float64).log_prob(x))
    fit(model, x, settings=FitSettings(epochs=30, learning_rate=0.05))
    assert model.log_prob(x).mean().item() > before + 0.1
    assert torch.equal(st.decoder_of(model).head, decoder.head)


def test_a_decoder_that_is_trained_on_changes_no_circuit():
    decoder = tree_decoder()
    circuit = st.continuous_mixture(decoder, 4)
    x = torch.zeros(1, 5, dtype=torch.float64)
    before = circuit.compile(dtype=torch.float64).log_prob(x)
    with torch.no_grad():
        decoder.head.zero_()
    assert torch.equal(circuit.compile(dtype=torch.float64).log_prob(x), before)


def test_parts_share_one_decoder():
    model = st.continuous_mixture(tree_decoder(), 4).compile()
    assert len({id(module) for module in model.modules() if isinstance(module, st.TreeDecoder)}) == 1
    trained = model.to_circuit()
    assert len({id(sourced.source.decoder) for sourced in trained.sourced()}) == 1
    assert len({id(sourced.source.points) for sourced in trained.sourced()}) == 1


def test_bad_arguments():
    with pytest.raises(pc.ScopeError, match="undirected networkx tree"):
        st.TreeDecoder(nx.cycle_graph(3), 2, 1)
    with pytest.raises(pc.CircuitError, match="the decoder needs"):
        st.continuous_mixture(tree_decoder(), st.SobolPoints(4, 3))
    with pytest.raises(pc.CircuitError, match="no continuous mixture"):
        st.decoder_of(pc.Circuit(pc.Bernoulli("a", 0.5)))
    with pytest.raises(pc.ParameterError, match="points"):
        st.continuous_mixture(tree_decoder(), 0)
    with pytest.raises(pc.ParameterError, match="no initial parameters"):
        st.FactorisedDecoder(range(2), families.Indicator(), 1)
