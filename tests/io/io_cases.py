"""What the tests of files share: one circuit with every kind of array, a family and a source of a user, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Bernoulli, Categorical, DiscretizedLogistic, DiscretizedNormal, Indicator, Normal
from pcircuits.circuit.marginal import marginalize
from pcircuits.circuit.selected_regions import SelectedRegions
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.families import Normal as NormalFamily
from pcircuits.families.interface import ParameterSpec
from pcircuits.parameters import Parameter, Sourced, nonnegative, positive, real, simplex


@dataclass(frozen=True)
class Shifted(NormalFamily):
    """A user's family: a Normal whose location is counted from `origin`."""

    origin: float = 0.0

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        return {"loc": ParameterSpec(real), "scale": ParameterSpec(positive)}


class Decoder(nn.Module):
    """A user's source: codes in a buffer, decoded by weights."""

    def __init__(self, regions: int, width: int, unit_scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Linear(2, regions)
        self.frozen = nn.Parameter(torch.zeros(3, dtype=torch.float64), requires_grad=False)
        self.register_buffer("codes", torch.zeros(width, 2, dtype=torch.int64))
        self.unit_scale = unit_scale

    def parameters_for(self, columns):
        loc = self.weight(self.codes[columns].float()).T
        return {"loc": loc, "scale": torch.full_like(loc, self.unit_scale)}

    def to_config(self):
        regions, width = self.weight.out_features, len(self.codes)
        return {"regions": regions, "width": width, "unit_scale": self.unit_scale}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


TYPES = (Shifted, Decoder)


def decoder(regions: int = 3, width: int = 4) -> Decoder:
    made = Decoder(regions, width, 0.7)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    made.codes.copy_(torch.arange(2 * width).reshape(width, 2))
    made.weight.bias.requires_grad_(False)
    return made.eval()


def everything() -> Circuit:
    """Every kind of array, several roots, ties, repeated values, five dtypes and families, labels of both kinds."""
    g = torch.Generator().manual_seed(0)
    tied = Parameter(torch.tensor([0.25, 0.75]), simplex, trainable=False, name="tied")
    pixels = Normal([3, 1, 2], torch.randn(3, 2, generator=g, dtype=torch.float64), 0.5)
    bins = DiscretizedNormal(["a", "b"], torch.rand(2, 2, generator=g), 0.1, levels=5, uniform=0.25)
    table = Categorical("c", torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64))
    half = Parameter(torch.tensor(0.5, dtype=torch.bfloat16), Bernoulli("d", 0.5).parameters["probs"].constraint)
    flip = concat([Bernoulli("d", half), Indicator("d", 1)], axis="width")
    made = Input(NormalFamily(), [(10,), (11,), (12,)], Sourced(decoder(3, 2), 3, 2))
    other = Input(Shifted(1.5), [(13,)], {"loc": _real(torch.randn(1, 2, generator=g)), "scale": _scale(2.0)})
    sums = pixels.sum(torch.rand(3, 2, 2, generator=g))
    left = Product((sums.prod(), bins[[1, 0]].prod([[0, 1]]), made.prod()))
    mixed = Mix((left, left[0, [1, 0]]), Parameter(torch.rand(1, 2, 2, generator=g), nonnegative))
    joined = Outer((mixed, table)) * Constant(torch.tensor([[1.0, 2.0, 3.0, 0.0]], dtype=torch.float16))
    grouped = concat([joined[0, [0, 3]], flip * other], axis="regions").prod([[0, 1]])
    halves = concat([DiscretizedLogistic("e", 0.5, 0.1, levels=4), Bernoulli(-7, 0.125)], axis="regions")[[1, 0]]
    scalar = mixture(tied, [halves.prod(), halves.prod()]) * (0.3 * grouped[0, 0] + 0.7 * grouped[0, 1])
    roots = [scalar, Sum(grouped, tied) * halves.prod()]
    found = Circuit(roots)
    return Circuit(roots, sorted(found.variables, key=lambda label: (isinstance(label, int), label)))


def _real(value: torch.Tensor) -> Parameter:
    return Parameter(value, real, name="where it lies")


def _scale(value: float) -> Parameter:
    return Parameter(torch.tensor(value), positive)


def with_marginalised_source() -> Circuit:
    source = decoder(3, 4)
    one = Input(NormalFamily(), [(v,) for v in range(3)], Sourced(source, 3, 4))
    two = Input(NormalFamily(), [(v,) for v in range(3)], Sourced(source, 3, 4))
    circuit = Circuit(0.5 * mixture([0.25] * 4, one.prod()) + 0.5 * mixture([0.25] * 4, two.prod()))
    return marginalize(circuit, [1])


def assert_same(one: Circuit, other: Circuit) -> None:
    """The same structure, sharing, ties and numbers, bit by bit."""
    assert one.variables == other.variables
    assert list(map(type, one.variables)) == list(map(type, other.variables))
    assert one.root.shape == other.root.shape
    assert len(one.arrays) == len(other.arrays)
    place = [{id(a): i for i, a in enumerate(c.arrays)} for c in (one, other)]
    for a, b in zip(one.arrays, other.arrays, strict=True):
        assert (type(a), a.shape) == (type(b), b.shape)
        assert [place[0][id(c)] for c in a.children] == [place[1][id(c)] for c in b.children]
        _assert_same_array(a, b)
    number = [{id(p): i for i, p in enumerate(c.parameters())} for c in (one, other)]
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        _assert_same_parameter(a, b)
    assert [number[0][id(p)] for p in held(one)] == [number[1][id(p)] for p in held(other)]
    sources = [sourced(c) for c in (one, other)]
    assert len({id(s) for s in sources[0]}) == len({id(s) for s in sources[1]})
    for a, b in zip(*sources, strict=True):
        _assert_same_source(a, b)


def held(circuit: Circuit) -> list[Parameter]:
    """The parameters of every array, with repeats."""
    found = []
    for array in circuit.arrays:
        if isinstance(array, Input) and not isinstance(array.parameters, Sourced):
            found += [array.parameters[name] for name in array.family.parameters]
        elif isinstance(array, Sum | Mix):
            found.append(array.weights)
        elif isinstance(array, Constant):
            found.append(array.value)
    return found


def sourced(circuit: Circuit) -> list[nn.Module]:
    return [a.parameters.source for a in circuit.inputs if isinstance(a.parameters, Sourced)]


def _assert_same_array(a: Units, b: Units) -> None:
    if isinstance(a, Input):
        assert (type(a.family), a.family, a.variables) == (type(b.family), b.family, b.variables)
        assert isinstance(a.parameters, Sourced) == isinstance(b.parameters, Sourced)
    if isinstance(a, Product):
        assert a.groups == b.groups
    if isinstance(a, Wiring):
        assert np.array_equal(a.child, b.child)
        assert np.array_equal(a.region, b.region)
        assert (a.column is None) == (b.column is None)
        assert a.column is None or np.array_equal(a.column, b.column)
        assert b.child.dtype == b.region.dtype == np.int64


def _assert_same_parameter(a: Parameter, b: Parameter) -> None:
    assert (a.constraint, a.trainable, a.name, a.shape) == (b.constraint, b.trainable, b.name, b.shape)
    assert a.value.dtype == b.value.dtype
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.value.dtype.itemsize]
    assert torch.equal(a.value.contiguous().view(bits), b.value.contiguous().view(bits))


def _assert_same_source(a: nn.Module, b: nn.Module) -> None:
    assert type(a) is type(b)
    if isinstance(a, SelectedRegions):
        assert torch.equal(a.regions, b.regions)
        a, b = a.source, b.source
    assert a.training == b.training
    assert a.to_config() == b.to_config()
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert value.dtype == b.state_dict()[key].dtype
        assert torch.equal(value, b.state_dict()[key])
    assert [p.requires_grad for p in a.parameters()] == [p.requires_grad for p in b.parameters()]
