"""Latents as variables: the circuit over both, and what cannot be one."""

import math

import pytest
import torch

import pcircuits as pc
from pcircuits import structures as st
from pcircuits.testing import Oracle


def layered():
    """Two regions of pairs under one root; their sums are one array of two regions."""
    leaves = pc.Categorical(range(4), torch.softmax(torch.arange(24.0).view(4, 3, 2).sin().double(), -1))
    weights = torch.softmax(torch.arange(12.0).view(2, 2, 3).cos().double(), -1)
    return pc.Circuit(leaves.prod([[0, 2], [3, 1]]).sum(weights).prod().sum([0.25, 0.75]))


def test_summed_over_its_latents_it_is_the_circuit():
    circuit = layered()
    both = pc.with_latents(circuit)
    assert both.variables == (0, 1, 2, 3, "z0", "z1", "z2")
    assert both.states == (2, 2, 2, 2, 2, 3, 3)
    assert both.check().deterministic
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0, math.nan], dtype=torch.float64)] * 4)
    oracle = Oracle(circuit)
    want = torch.tensor([oracle.log_value(oracle.row(row)) for row in x.tolist()], dtype=torch.float64)
    got = both.compile(dtype=torch.float64).log_prob(torch.nn.functional.pad(x, (0, 3), value=math.nan))
    assert torch.allclose(got, want, rtol=0, atol=1e-12)


def test_a_latent_says_which_input_is_used():
    circuit = layered()
    model, both = circuit.compile(dtype=torch.float64), pc.with_latents(circuit).compile(dtype=torch.float64)
    x = torch.tensor([[0.0, 1.0, math.nan, 1.0], [math.nan, 0.0, 0.0, math.nan]], dtype=torch.float64)
    given = both.given(torch.nn.functional.pad(x, (0, 3), value=math.nan))
    named = pc.latents_of(circuit)
    assert list(named) == ["z0", "z1", "z2"]
    assert named["z1"].region == 0
    for label, unit in named.items():
        shares = model.given(x).posterior(unit.array).view(2, unit.array.regions, unit.array.width, -1)
        want = shares[:, unit.region].sum(1)
        assert torch.allclose(given.probabilities(label)[:, 0], want, rtol=0, atol=1e-12)


def test_some_of_the_latents():
    circuit = layered()
    array = circuit.sums[0]
    one = pc.with_latents(circuit, {"second": circuit.unit(array, 1)})
    assert one.variables == (0, 1, 2, 3, "second")
    assert one.check().deterministic.holds is not True
    x = torch.tensor([[0.0, 1.0, 0.0, 1.0, math.nan]], dtype=torch.float64)
    got = one.compile(dtype=torch.float64).log_prob(x)
    assert torch.allclose(got, circuit.compile(dtype=torch.float64).log_prob(x[:, :4]), rtol=0, atol=1e-12)
    states = x.expand(3, 5).clone()
    states[:, 4] = torch.arange(3)
    assert one.compile(dtype=torch.float64).log_prob(states).logsumexp(0).item() == pytest.approx(got.item(), abs=1e-12)


def test_ties_and_sharing_are_kept():
    circuit = st.hidden_markov(5, 2, st.bernoulli_leaves(), generator=torch.Generator().manual_seed(0))
    both = pc.with_latents(circuit)
    kept = {id(p) for p in circuit.parameters()}
    added = [p for p in both.parameters() if id(p) not in kept]
    assert len(list(both.parameters())) == len(kept) + 1
    assert not added[0].trainable


@pytest.mark.errors
def test_what_cannot_be_a_latent():
    circuit = layered()
    array = circuit.sums[0]
    with pytest.raises(pc.CircuitError, match=r"'z' stands for Sum.2, 2., which is not a region of dense sums"):
        pc.with_latents(circuit, {"z": array})
    with pytest.raises(pc.CircuitError, match="'z' stands for Product"):
        pc.with_latents(circuit, {"z": circuit.products[0]})
    with pytest.raises(pc.ScopeError, match="has a variable 2 already"):
        pc.with_latents(circuit, {2: circuit.root})
    with pytest.raises(pc.ScopeError, match="'a' and 'b' name the same sums, region 0 of Sum"):
        pc.with_latents(circuit, {"a": circuit.root, "b": circuit.root})
    leaves = pc.Bernoulli("x", [0.2, 0.8])
    uneven = pc.Circuit(0.5 * leaves.sum([0.5, 0.5]) + 0.5 * pc.Bernoulli("x", 0.5))
    with pytest.raises(pc.PropertyError, match=r"with_latents.*have latents that the other inputs lack"):
        pc.with_latents(uneven)
