"""No tensor that a query makes is larger than the bound on memory, where parameters and answers are smaller."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import pcircuits as pc
from pcircuits.queries.sampling import Draw

MIB = 2**20


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that an operation fills; views fill none."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns):
            for tensor in tree_iter(out):
                if isinstance(tensor, torch.Tensor):
                    self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return out


def normals(components):
    loc = torch.randn(2, components, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return pc.Circuit(pc.mixture([1 / components] * components, pc.Normal(range(2), loc, 1.0).prod()))


def coins(components):
    """A root for each of four classes over the same products."""
    g = torch.Generator().manual_seed(0)
    leaves = pc.Bernoulli(range(10), torch.rand(10, components, generator=g, dtype=torch.float64))
    weights = torch.rand(4, components, generator=g, dtype=torch.float64)
    return pc.Circuit(leaves.prod().sum(weights / weights.sum(1, keepdim=True)))


def layers(width):
    """Two layers of dense sums over 16 variables."""
    g = torch.Generator().manual_seed(0)
    layer = pc.Bernoulli(range(16), torch.rand(16, width, generator=g, dtype=torch.float64))
    while layer.regions > 1:
        layer = layer.sum(torch.full((layer.regions, width, width), 1 / width, dtype=torch.float64))
        layer = layer.prod([(r, r + 1) for r in range(0, layer.regions, 2)])
    return pc.Circuit(layer.sum([1 / width] * width))


def states(count):
    """A mixture of products of two leaves over many states."""
    probs = torch.rand(2, 64, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaves = pc.Categorical(range(2), probs / probs.sum(-1, keepdim=True))
    return pc.Circuit(pc.mixture([1 / 64] * 64, leaves.prod()))


def generator():
    return torch.Generator().manual_seed(0)


def rows(count, columns, states=2):
    x = torch.randint(states, (count, columns), generator=generator()).double()
    return x.masked_fill(torch.rand(x.shape, generator=generator()) < 0.3, torch.nan)


CASES = {
    "flows of a mixture": (normals(400), MIB, lambda m: m.given(rows(4000, 2)).mean()),
    "spread of a mixture": (normals(400), MIB, lambda m: m.given(rows(4000, 2)).variance()),
    "ranges of a mixture": (coins(4096), 2 * MIB, lambda m: m.log_prob(rows(1500, 10))),
    "a box of a mixture": (coins(4096), 2 * MIB, lambda m: m.root(0).log_probability(rows(500, 10).nan_to_num(), 1.0)),
    "samples of layers": (layers(64), MIB, lambda m: m.sample(2000, generator())),
    "samples of many states": (states(256), 2 * MIB, lambda m: m.sample(2000, generator())),
    "look-ups of many states": (states(256), 2 * MIB, lambda m: m.log_prob(rows(600, 2, 256))),
    "an infinite quantity": (coins(512), MIB, lambda m: m.root(0).given(rows(300, 10)).expectation(lambda x: 1 / x)),
}


@pytest.mark.parametrize("case", CASES)
def test_no_tensor_is_larger_than_the_bound(case):
    circuit, memory, ask = CASES[case]
    model = circuit.compile(dtype=torch.float64, memory=memory)
    with torch.no_grad(), Largest() as largest:
        ask(model)
    assert largest.bytes <= memory


def test_choices_from_groups_are_not_padded_to_the_largest():
    """20,000 visits, nearly all of them in one of 1,000 groups."""
    group = torch.cat([torch.arange(1000), torch.zeros(19_000, dtype=torch.int64)])
    scores = torch.rand(1000, 8, generator=generator(), dtype=torch.float64).log2()
    with Largest() as largest:
        picked = Draw(generator()).pick_within(scores, group)
    assert largest.bytes <= MIB
    counts = torch.bincount(picked[group == 0], minlength=8) / 19_001
    torch.testing.assert_close(counts.double(), torch.exp2(scores[0]) / torch.exp2(scores[0]).sum(), atol=0.02, rtol=0)
