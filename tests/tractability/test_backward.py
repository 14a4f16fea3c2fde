"""The way back costs what the way up does: linear in the length of chains and in the factors of products, memory bounded."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import pcircuits as pc
from pcircuits.program.layers import recursion

MIB = 2**20


class Counted(TorchDispatchMode):
    """Elements that operations write, views aside; and the bytes of what was written and is still alive, at most."""

    def __init__(self):
        super().__init__()
        self.elements = self.operations = 0
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        if not any(r.alias_info is not None for r in func._schema.returns):
            for tensor in tree_iter(out):
                if isinstance(tensor, torch.Tensor):
                    self.elements += tensor.numel()
                    self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        return out


def simplex(*shape):
    g = torch.Generator().manual_seed(0)
    return pc.Parameter(torch.softmax(torch.randn(shape, generator=g, dtype=torch.float64), -1), pc.simplex)


def chain(length):
    """A hidden Markov model with tied parameters."""
    steps, emissions = simplex(4, 4), simplex(1, 4, 5)
    units = pc.Categorical(0, emissions)
    for t in range(1, length):
        units = pc.Categorical(t, emissions) * units.sum(steps)
    return pc.Circuit(units.sum(simplex(4)))


def wide(factors):
    """One product of many sums."""
    leaves = pc.Categorical(range(factors), simplex(factors, 4, 3))
    return pc.Circuit(leaves.sum(simplex(factors, 4, 4)).prod().sum(simplex(4)))


def training_step(circuit, rows, **options):
    model = circuit.compile(dtype=torch.float64, **options)
    columns = len(circuit.variables)
    x = torch.randint(3, (rows, columns), generator=torch.Generator().manual_seed(0)).double()
    with Counted() as count:
        model.log_prob(x).sum().backward()
    return count


@pytest.mark.parametrize("rewrites", [None, ()], ids=["rewritten", "plain"])
@pytest.mark.parametrize(("make", "sizes"), [(chain, (32, 64, 128)), (wide, (64, 256, 1024))], ids=["chain", "wide"])
def test_a_training_step_is_linear_in_size(make, sizes, rewrites, monkeypatch):
    monkeypatch.setattr(recursion, "MANY", 10**9)  # steps in turn, whatever their number
    counts = [training_step(make(size), 8, rewrites=rewrites) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log([c.elements for c in counts]), 1)[0]
    assert slope <= 1.1, [c.elements for c in counts]
    operations = np.polyfit(np.log(sizes), np.log([c.operations for c in counts]), 1)[0]
    assert operations <= 1.1, [c.operations for c in counts]


def layers(width):
    layer = pc.Categorical(range(16), simplex(16, width, 3))
    while layer.regions > 1:
        layer = layer.sum(simplex(layer.regions, width, width))
        layer = layer.prod([(r, r + 1) for r in range(0, layer.regions, 2)])
    return pc.Circuit(layer.sum(simplex(width)))


def components(count):
    return pc.Circuit(pc.mixture([1 / count] * count, pc.Categorical(range(8), simplex(8, count, 3)).prod()))


@pytest.mark.parametrize(("circuit", "rows"), [(layers(32), 2000), (components(1024), 1000)], ids=["layers", "mixture"])
def test_no_tensor_of_a_training_step_is_larger_than_the_bound(circuit, rows):
    """Parameters take less than the bound; values of all rows together would take more."""
    count = training_step(circuit, rows, memory=2 * MIB)
    assert count.largest <= 2 * MIB
    free = training_step(circuit, rows, rewrites=())
    assert free.largest > 2 * MIB


def test_gradients_do_not_depend_on_the_bound():
    for circuit in (layers(8), components(64)):
        found = []
        for options in ({}, {"memory": 20_000}, {"rewrites": ()}):
            model = circuit.compile(dtype=torch.float64, **options)
            x = torch.randint(3, (50, len(circuit.variables)), generator=torch.Generator().manual_seed(0)).double()
            model.log_prob(x).sum().backward()
            found.append(torch.cat([p.grad.flatten() for p in model.parameters()]).sort().values)
        assert all(torch.allclose(found[0], other, rtol=1e-10, atol=1e-10) for other in found[1:])
