"""Queries of circuits whose root makes no use of some regions of its arrays."""

import torch

import pcircuits as pc


def circuits():
    """A circuit with unused regions (some of them broken, some over variables it does not have), and one without."""
    loc = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(6, 2)
    weights = [0.25, 0.75]
    states = torch.tensor([[[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]], dtype=torch.float64)
    idle = pc.concat(
        [
            pc.Normal(range(6), loc, 1.0),
            pc.Categorical("c", states),
            0.5 * pc.Bernoulli("c", [0.5, 0.1]) + 0.5 * pc.Normal("d", [0.0, 1.0], 1.0),
            pc.Categorical("e", states),
        ],
        axis="regions",
    )
    plain = pc.Normal([1, 3], loc[[1, 3]], 1.0).prod() * pc.Categorical("c", states)
    return pc.Circuit(idle[[1, 3, 6]].prod().sum(weights)), pc.Circuit(plain.sum(weights), [1, 3, "c"])


def test_unused_regions_change_no_answer():
    one, two = circuits()
    assert one.variables == two.variables
    idle, plain = one.compile(dtype=torch.float64), two.compile(dtype=torch.float64)
    x = torch.tensor([[0.5, torch.nan, 1.0], [torch.nan, -1.0, torch.nan]], dtype=torch.float64)
    draws = idle.given(x).sample(3, generator=torch.Generator().manual_seed(0))
    assert bool(idle.log_prob(draws.flatten(0, 1)).isfinite().all())
    torch.testing.assert_close(idle.log_prob(x), plain.log_prob(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(idle.given(x).mean(), plain.given(x).mean(), rtol=0, atol=1e-12)
    torch.testing.assert_close(idle.given(x).variance(), plain.given(x).variance(), rtol=0, atol=1e-12)
    completions = [m.given(x).map(exact=False).assignment for m in (idle, plain)]
    assert torch.equal(*completions)
    box = [m.probability({1: 0.0}, {1: 1.0, "c": 1}) for m in (idle, plain)]
    torch.testing.assert_close(*box, rtol=0, atol=1e-12)
    assert idle.to_circuit().variables == one.variables


def test_unused_regions_have_no_part_in_a_condition():
    one, two = circuits()
    given = [pc.condition(c, {1: 0.5, "c": 2}) for c in (one, two)]
    assert given[0].variables == (3,)
    values = [c.compile(dtype=torch.float64).log_prob({3: [0.0, 1.0]}) for c in given]
    torch.testing.assert_close(*values, rtol=0, atol=1e-12)
