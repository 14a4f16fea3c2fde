"""Networks that make weights and leaves: functions of the units' points, and nothing of them after training."""

import io
import math

import numpy as np
import pytest
import torch

import pcircuits as pc
from pcircuits import families
from pcircuits import structures as st
from pcircuits.learning import FitSettings, fit
from pcircuits.testing import check_source


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def by_networks(leaves=None, graph=None, seed=0, width=3):
    leaves = st.network_leaves(families.Categorical(3), hidden=8) if leaves is None else leaves
    graph = st.quad_graph(2, 2) if graph is None else graph
    weights = st.NetworkSimplices(seeded(seed), hidden=8)
    return st.layered(graph, leaves, width, weights=weights, generator=seeded(seed))


def test_a_network_by_hand():
    network = st.FourierNetwork(2, heads=3, hidden=4, layers=2, generator=seeded())
    z = np.array([0.3, -0.8])
    turns = 2 * math.pi * network.frequencies.numpy() @ z
    made = np.concatenate([np.sin(turns), np.cos(turns)])
    for weights, shift in zip(network.weights, network.shifts, strict=True):
        made = np.tanh(weights.detach().numpy() @ made + shift.detach().numpy())
    want = network.head.detach().numpy() @ made + network.bias.detach().numpy()
    np.testing.assert_allclose(network(torch.tensor(z)[None]).detach().numpy()[0], want, rtol=1e-12)


def test_heads_begin_with_the_spread_of_a_standard_normal():
    z = torch.linspace(-1, 1, 100, dtype=torch.float64)
    network = st.FourierNetwork(2, heads=500, hidden=32, generator=seeded())
    made = network(torch.stack(torch.meshgrid(z, z, indexing="ij"), -1)).detach()
    assert 0.7 < made.std().item() < 1.3
    assert abs(made.mean().item()) < 0.2


def test_units_are_points_of_one_function():
    """Twice the units are the same function at twice the points: with three times as many, every third is the same."""
    few, many = (st.NetworkWeights(2, width, 1, hidden=8, generator=seeded()) for width in (3, 9))
    one = few.parameters_for(torch.arange(3))["log_weights"]
    other = many.parameters_for(torch.tensor([1, 4, 7]))["log_weights"]
    torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "family",
    [
        families.Bernoulli(),
        families.Categorical(3),
        families.Normal(),
        families.DiscretizedLogistic(5),
        families.Poisson(),
    ],
    ids=str,
)
def test_sources_of_leaves_keep_what_sources_promise(family):
    source = st.NetworkParameters(family, regions=2, width=3, hidden=4, generator=seeded())
    check_source(source, family, width=3)


def test_leaves_begin_as_far_apart_as_independent_draws():
    (network,) = (
        array.parameters.source
        for array in by_networks(st.network_leaves(families.Normal(), centre=5.0, spread=0.1), width=64).inputs
    )
    made = network.parameters_for(torch.arange(64))
    assert made["loc"].mean().item() == pytest.approx(5.0, abs=0.1)
    assert 0.03 < made["loc"].std().item() < 0.3
    torch.testing.assert_close(made["scale"], torch.full_like(made["scale"], 0.1))


def test_training_changes_networks_and_leaves_a_plain_circuit():
    circuit = by_networks()
    assert circuit.check().normalised
    assert circuit.summary().parameters == 0
    model = circuit.compile(dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0]], dtype=torch.float64).repeat(30, 1)
    before = model.log_prob(x).mean().item()
    fit(model, x, settings=FitSettings(epochs=20, batch_size=20, learning_rate=0.02))
    assert model.log_prob(x).mean().item() > before + 1.0
    plain = pc.materialise(model.to_circuit())
    assert not list(plain.sourced())
    assert plain.summary().parameters == circuit.summary().sourced_parameters
    torch.testing.assert_close(plain.compile(dtype=torch.float64).log_prob(x), model.log_prob(x), atol=1e-9, rtol=0)
    torch.testing.assert_close(
        plain.compile(dtype=torch.float64).given({0: x[:, 0]}).mean(),
        model.given({0: x[:, 0]}).mean(),
        atol=1e-9,
        rtol=0,
    )


def test_files_know_the_networks_of_the_library():
    model = by_networks(st.network_leaves(families.DiscretizedLogistic(3), hidden=4)).compile(dtype=torch.float64)
    file = io.BytesIO()
    pc.save(model, file)
    x = torch.tensor([[0.0, 1.0, 2.0, 1.0]], dtype=torch.float64)
    loaded = pc.load(io.BytesIO(file.getvalue())).compile(dtype=torch.float64)
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))


def test_gradients_do_not_depend_on_the_bound_on_memory():
    """Where a network's activations are too many they are computed again; where its answers are, they are streamed."""
    circuit = by_networks()
    x = torch.tensor([[0.0, 1.0, 2.0, 1.0], [1.0, 1.0, 0.0, math.nan]], dtype=torch.float64)
    found = []
    for memory in (None, 8192, 1):
        model = circuit.compile(dtype=torch.float64, memory=memory)
        streamed = model.program.streams
        model.log_prob(x).sum().backward()
        found.append((streamed, [parameter.grad for parameter in model.parameters()]))
    assert [streamed for streamed, _ in found] == [False, False, True]
    for _, gradients in found[1:]:
        for one, other in zip(found[0][1], gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_families_that_no_network_can_make_are_refused():
    with pytest.raises(pc.ParameterError, match="no initial parameters"):
        by_networks(st.network_leaves(families.Indicator()))
