"""Products of leaves that are looked up: each distinct pair of a leaf and its evidence once, and no digits lost."""

import pytest
import torch

import pcircuits as pc
from pcircuits.program.layers import pairs


def mixture(pixels, components, scale=0.1):
    generator = torch.Generator().manual_seed(0)
    loc = torch.rand(pixels, components, generator=generator, dtype=torch.float64)
    leaves = pc.DiscretizedLogistic(range(pixels), loc, scale, levels=8)
    return pc.Circuit(pc.mixture([1 / components] * components, leaves.prod()))


def images(rows, pixels):
    """Mostly 1, some missing."""
    generator = torch.Generator().manual_seed(1)
    kind = torch.rand(rows, pixels, generator=generator)
    x = torch.randint(8, (rows, pixels), generator=generator).double()
    return x.masked_fill(kind < 0.7, 1.0).masked_fill(kind > 0.95, torch.nan)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_pairs_found_in_blocks_are_those_found_together(block, monkeypatch):
    circuit, x = mixture(11, 5), images(30, 11)
    together = circuit.compile(dtype=torch.float64).log_prob(x)
    box = circuit.compile(dtype=torch.float64).log_probability(x.nan_to_num() - 1.5, x.nan_to_num() + 0.5)
    monkeypatch.setattr(pairs, "PAIR_BLOCK", block)
    model = circuit.compile(dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), together, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        model.log_probability(x.nan_to_num() - 1.5, x.nan_to_num() + 0.5), box, rtol=1e-12, atol=0
    )


def test_each_pair_is_evaluated_once_whatever_the_memory(monkeypatch):
    """A low bound cuts columns into ranges, not rows into slices that would each make the table again."""
    circuit, x = mixture(20, 300), images(2000, 20)
    seen = []
    family = pc.families.DiscretizedLogistic
    original = family.log_prob

    def counted(self, x, observed, parameters):
        value = original(self, x, observed, parameters)
        seen.append(value.numel())
        return value

    monkeypatch.setattr(family, "log_prob", counted)
    with torch.no_grad():
        low = circuit.compile(dtype=torch.float64, memory=16 * 2**20).log_prob(x)
        distinct = len({(v, str(value)) for row in x.tolist() for v, value in enumerate(row)})
        assert sum(seen) == distinct * 300
        high = circuit.compile(dtype=torch.float64).log_prob(x)
    torch.testing.assert_close(low, high, rtol=1e-12, atol=0)


def test_a_row_likely_where_the_most_frequent_values_are_not_keeps_its_digits():
    """Its sum by differences would be that of the others, 400,000 nats, and its differences from it."""
    loc = torch.zeros(200, 2)
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.DiscretizedNormal(range(200), loc, 0.01, levels=8).prod()))
    x = torch.full((20, 200), 7.0)
    x[3] = 0.0
    narrow, wide = (circuit.compile(dtype=dtype).log_prob(x) for dtype in (torch.float32, torch.float64))
    assert wide[0] < -400_000 < -1 < wide[3]
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=1e-5)


def test_tables_of_states_are_made_once_and_read_by_state():
    """Products of categorical leaves: zeros, missing values and shared parameters, against layers that are not fused."""
    g = torch.Generator().manual_seed(0)
    probs = torch.rand(3, 4, 5, generator=g, dtype=torch.float64) * (torch.rand(3, 4, 5, generator=g) > 0.3)
    probs[..., 0] += 0.1
    probs[1, :, 3] = 0
    for shared in (probs, probs[:1], probs[:, :1]):
        leaves = pc.Categorical(range(3), shared / shared.sum(-1, keepdim=True))
        circuit = pc.Circuit(pc.mixture([1 / leaves.width] * leaves.width, leaves.prod()))
        x = torch.randint(5, (40, 3), generator=g).double()
        x[torch.rand(x.shape, generator=g) < 0.3] = torch.nan
        x[0, 1] = 3  # impossible, where each variable has probabilities of its own
        found, wanted = (circuit.compile(dtype=torch.float64, rewrites=r).log_prob(x) for r in (None, ()))
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
