"""The contract suite on families over several variables, right ones and ones that are broken on purpose."""

import math
from dataclasses import dataclass

import pytest
import torch

import pcircuits as pc
from pcircuits.families import AbstractFamily, ParameterSpec
from pcircuits.families.draws import standard_normal, uniform
from pcircuits.testing.families import check_family


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Pair(AbstractFamily):
    """P(x = (a, b)) = probs[S·a + b] over two variables of S states that depend on each other."""

    each: int
    name = "Pair"
    base = "counting"

    @property
    def size(self):
        return 2

    @property
    def states(self):
        return self.each

    @property
    def parameters(self):
        return {"probs": ParameterSpec(pc.simplex, 1)}

    def table(self, parameters):
        """(..., S, S)."""
        return parameters["probs"].unflatten(-1, (self.each, self.each))

    def kept(self, inside, parameters):
        """The table with the entries that a mask (..., S, 2) keeps of each variable."""
        mask = inside[..., :, None, 0] & inside[..., None, :, 1]
        return torch.where(mask, self.table(parameters), 0.0)

    def grid(self, like):
        return torch.arange(self.each, dtype=like.dtype, device=like.device).unsqueeze(-1)

    def given(self, x, observed, parameters):
        """The table where it agrees with what is observed."""
        return self.kept(~observed.unsqueeze(-2) | (self.grid(x) == x.unsqueeze(-2)), parameters)

    def total(self, table):
        value = table.sum((-1, -2))
        positive = value > 0
        return torch.where(positive, torch.where(positive, value, 1.0).log(), -torch.inf)

    def log_prob(self, x, observed, parameters):
        value = self.total(self.given(x, observed, parameters))
        return torch.where(observed.any(-1), value, torch.zeros_like(value))

    def log_mass(self, lower, upper, x, observed, parameters):
        between = (self.grid(x) >= lower.unsqueeze(-2)) & (self.grid(x) <= upper.unsqueeze(-2))
        seen = self.grid(x) == x.unsqueeze(-2)
        return self.total(self.kept(torch.where(observed.unsqueeze(-2), seen, between), parameters))

    def log_mode(self, x, observed, parameters):
        return self.given(x, observed, parameters).amax((-1, -2)).log()

    def pair(self, index, x):
        return torch.stack([index // self.each, index % self.each], -1).to(x.dtype)

    def mode(self, x, observed, parameters):
        return self.pair(self.given(x, observed, parameters).flatten(-2).argmax(-1), x)

    def sample(self, x, observed, parameters, generator):
        share = self.given(x, observed, parameters).flatten(-2).cumsum(-1)
        level = uniform(share.shape[:-1], share, generator).unsqueeze(-1) * share[..., -1:]
        return self.pair((share <= level).sum(-1), x)

    def expectation(self, f, x, observed, parameters):
        share = self.given(x, observed, parameters)
        share = share / share.sum((-1, -2), keepdim=True)
        states = f(self.grid(x)[:, 0])
        return torch.stack([(share.sum(-1) * states).sum(-1), (share.sum(-2) * states).sum(-1)], -1)

    def moment(self, order, x, observed, parameters):
        return torch.where(observed, x**order, self.expectation(lambda v: v**order, x, observed, parameters))

    def variance(self, x, observed, parameters):
        share = self.given(x, observed, parameters)
        share = share / share.sum((-1, -2), keepdim=True)
        spread = (self.grid(x) - self.moment(1, x, observed, parameters).unsqueeze(-2)) ** 2
        both = torch.stack([share.sum(-1), share.sum(-2)], -1)
        return (both * spread).sum(-2)


@dataclass(frozen=True)
class Normals(AbstractFamily):
    """Independent Normals of one scale: log p(x) = Σ_v log N(x_v; loc_v, scale)."""

    count: int
    name = "Normals"
    base = "lebesgue"

    @property
    def size(self):
        return self.count

    @property
    def parameters(self):
        return {"loc": ParameterSpec(pc.real, 1), "scale": ParameterSpec(pc.positive)}

    def each(self, parameters):
        """One univariate family over (..., size), each variable a leaf."""
        return {"loc": parameters["loc"], "scale": parameters["scale"].unsqueeze(-1)}

    def log_prob(self, x, observed, parameters):
        value = self.one.log_prob(x.unsqueeze(-1), observed.unsqueeze(-1), self.each(parameters)).sum(-1)
        return torch.where(value > -torch.inf, value, -torch.inf)  # no gradient, of any variable's, where impossible

    def log_mass(self, lower, upper, x, observed, parameters):
        arguments = (t.unsqueeze(-1) for t in (lower, upper, x, observed))
        return self.one.log_mass(*arguments, self.each(parameters)).sum(-1)

    def log_mode(self, x, observed, parameters):
        return self.one.log_mode(x.unsqueeze(-1), observed.unsqueeze(-1), self.each(parameters)).sum(-1)

    def mode(self, x, observed, parameters):
        return torch.where(observed, x, parameters["loc"])

    def sample(self, x, observed, parameters, generator):
        z = standard_normal(x.shape, x, generator)
        return torch.where(observed, x, parameters["loc"] + parameters["scale"].unsqueeze(-1) * z)

    def moment(self, order, x, observed, parameters):
        return self.one.moment(order, x.unsqueeze(-1), observed.unsqueeze(-1), self.each(parameters))[..., 0]

    def expectation(self, f, x, observed, parameters):
        return self.one.expectation(f, x.unsqueeze(-1), observed.unsqueeze(-1), self.each(parameters))[..., 0]

    def variance(self, x, observed, parameters):
        return self.one.variance(x.unsqueeze(-1), observed.unsqueeze(-1), self.each(parameters))[..., 0]

    @property
    def one(self):
        return pc.families.Normal()


PAIRS = {"probs": f64([0.1, 0.0, 0.2, 0.05, 0.15, 0.1, 0.0, 0.3, 0.1], [1 / 9] * 9)}
NORMALS = {"loc": f64([0.5, -2.0], [3.0, 1.0]), "scale": f64(0.7, 2.0)}


@pytest.mark.parametrize(
    ("family", "parameters"), [(Pair(3), PAIRS), (Normals(2), NORMALS)], ids=lambda c: type(c).__name__
)
def test_contract(family, parameters):
    check_family(family, parameters)


def test_circuits_take_them_as_leaves():
    leaf = pc.Input(Pair(3), [("a", "b")], {"probs": pc.Parameter(PAIRS["probs"].unsqueeze(0), pc.simplex)})
    model = pc.Circuit(leaf.sum([0.25, 0.75])).compile(dtype=torch.float64)
    mixed = 0.25 * PAIRS["probs"][0] + 0.75 * PAIRS["probs"][1]
    assert model.log_prob({"a": 1.0}).item() == pytest.approx(math.log(mixed[3:6].sum()), rel=1e-12)
    states = torch.arange(3).double()
    wanted = ((mixed[3:6] * states).sum() / mixed[3:6].sum()).item()
    assert model.given({"a": 1.0}).mean()[0].tolist() == pytest.approx([1.0, wanted], rel=1e-12)


@dataclass(frozen=True)
class ForgetsWhatWasSeen(Pair):
    def moment(self, order, x, observed, parameters):
        free = super().moment(order, x, torch.zeros_like(observed), parameters)
        return torch.where(observed, x**order, free)


@dataclass(frozen=True)
class SamplesWithoutTheOther(Pair):
    def sample(self, x, observed, parameters, generator):
        """Each variable from its own marginal."""
        one, two = (Pair.sample(self, x, torch.zeros_like(observed), parameters, generator) for _ in range(2))
        return torch.where(observed, x, torch.stack([one[..., 0], two[..., 1]], -1))


@dataclass(frozen=True)
class MarginalOfOneOnly(Normals):
    def log_prob(self, x, observed, parameters):
        return super().log_prob(x, observed, parameters) + 0.1 * (observed.sum(-1) == 1)


@dataclass(frozen=True)
class LeakyZero(Normals):
    def log_prob(self, x, observed, parameters):
        return self.one.log_prob(x.unsqueeze(-1), observed.unsqueeze(-1), self.each(parameters)).sum(-1)


@dataclass(frozen=True)
class ReadsTheMissing(Normals):
    def log_prob(self, x, observed, parameters):
        return super().log_prob(x, observed, parameters) + 1e-9 * torch.nan_to_num(x).sum(-1)


@pytest.mark.parametrize(
    ("family", "parameters", "message"),
    [
        (ForgetsWhatWasSeen(3), PAIRS, "moment"),
        (SamplesWithoutTheOther(3), PAIRS, "do not follow|impossible"),
        (MarginalOfOneOnly(2), NORMALS, "summed out|mass"),
        (LeakyZero(2), NORMALS, "the gradient of log_prob"),
        (ReadsTheMissing(2), NORMALS, "where nothing was observed"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_the_suite_finds_broken_families(family, parameters, message):
    with pytest.raises(AssertionError, match=message):
        check_family(family, parameters)
