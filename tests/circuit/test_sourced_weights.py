"""Weights of sums that a source makes: against the oracle, and wherever circuits and models go."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import pcircuits as pc
from pcircuits.learning import EMSettings, TrainingError, em
from pcircuits.learning.structure import fingerprint
from pcircuits.parameters import Sourced
from pcircuits.testing import Oracle

ROWS = [[0, 1, 1, 0], [1, 1, None, 0], [None, 0, None, 1]]


class Table(nn.Module):
    """Weights, or their logarithms, from a table of numbers: what a network would compute."""

    def __init__(self, shape, logs, seed=0, dtype=torch.float64):
        super().__init__()
        self.shape, self.logs = shape, logs
        self.table = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))
        self.calls = 0

    def parameters_for(self, columns):
        self.calls += 1
        chosen = self.table[:, columns]
        return {"log_weights": chosen} if self.logs else {"weights": chosen**2}

    def to_config(self):
        return {"shape": list(self.shape), "logs": self.logs}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def circuit_with(logs, shared):
    probs = torch.softmax(torch.arange(24, dtype=torch.float64).sin().view(4, 3, 2), -1)
    own = 1 if shared else 4
    sums = pc.Categorical(range(4), probs).sum(Sourced(Table((own, 3, 3), logs), own, 3))
    pairs = sums.prod([[0, 1], [2, 3]])
    one = pairs.sum(Sourced(Table((2, 2, 3), logs, 1), 2, 2))
    other = pairs.sum(torch.full((2, 3), 1 / 3, dtype=torch.float64))
    mixed = pc.Mix(
        [one, other], Sourced(Table((1, 1, 2) if shared else (2, 2, 2), logs, 2), *((1, 1) if shared else (2, 2)))
    )
    return pc.Circuit(mixed.prod().sum([0.4, 0.6]))


def data():
    return torch.tensor([[float("nan") if v is None else v for v in row] for row in ROWS], dtype=torch.float64)


@pytest.fixture(params=[(True, False), (True, True), (False, False), (False, True)], ids=str)
def circuit(request):
    return circuit_with(*request.param)


@pytest.mark.parametrize("rewrites", [None, (), ("fold",)], ids=str)
def test_answers_are_those_of_the_oracle(circuit, rewrites):
    oracle, model = Oracle(circuit), circuit.compile(dtype=torch.float64, rewrites=rewrites)
    want = [oracle.log_prob({v: x for v, x in enumerate(row) if x is not None}) for row in ROWS]
    torch.testing.assert_close(
        model.log_prob(data()), torch.tensor(want, dtype=torch.float64).view(-1), atol=1e-9, rtol=0
    )


def test_a_mixture_whose_weights_a_source_makes():
    units = pc.Normal(range(3), torch.arange(15, dtype=torch.float64).view(3, 5).cos(), 1.0).prod()
    root = pc.mixture(Sourced(Table((1, 1, 5), True), 1, 1), units)
    model = pc.Circuit(root).compile(dtype=torch.float64)
    weights = torch.softmax(model.program.sources.source_0.table.detach()[0, 0], -1)
    fixed = pc.Circuit(pc.mixture(weights, units)).compile(dtype=torch.float64)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), fixed.log_prob(x), atol=1e-9, rtol=0)
    torch.testing.assert_close(model.given({0: x[:, 0]}).mean(), fixed.given({0: x[:, 0]}).mean(), atol=1e-9, rtol=0)


def test_gradients_reach_the_source(circuit):
    model = circuit.compile(dtype=torch.float64)
    parameters = list(model.parameters())
    found = torch.autograd.grad(model.log_prob(data()).sum(), parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        flat = parameter.detach().view(-1)
        for place in {0, flat.numel() - 1}:
            values, old = [], flat[place].item()
            for step in (1e-6, -1e-6):
                flat[place] = old + step
                values.append(model.log_prob(data()).sum().item())
            flat[place] = old
            assert gradient.view(-1)[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)


def test_a_source_is_asked_once_while_nothing_changes(circuit):
    model = circuit.compile(dtype=torch.float64)
    sources = list(model.program.sources.values())
    with torch.no_grad():
        before = model.log_prob(data())
        calls = [source.calls for source in sources]
        model.log_prob(data())
        model.mean()
        assert [source.calls for source in sources] == calls
        sources[0].table.data.mul_(2.0)
        assert not torch.equal(model.log_prob(data()), before)
    assert not torch.equal(model.mean(), circuit.compile(dtype=torch.float64).mean())


def test_files_pickles_and_copies(circuit):
    model = circuit.compile(dtype=torch.float64)
    with torch.no_grad():
        model.program.sources.source_1.table.mul_(1.5)
    want = model.log_prob(data())
    file = io.BytesIO()
    pc.save(model, file)
    loaded = pc.load(io.BytesIO(file.getvalue()), types=(Table,))
    twin = circuit.compile(dtype=torch.float64, rewrites=())
    twin.load_state_dict(model.state_dict())
    for other in (loaded, model.to_circuit(), pickle.loads(pickle.dumps(model.to_circuit()))):
        assert torch.equal(other.compile(dtype=torch.float64).log_prob(data()), want)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), twin):
        torch.testing.assert_close(other.log_prob(data()), want, atol=1e-12, rtol=0)


def test_materialised_circuits_need_no_source(circuit):
    made = pc.materialise(circuit)
    assert not list(made.sourced())
    same = made.compile(dtype=torch.float64).log_prob(data())
    torch.testing.assert_close(same, circuit.compile(dtype=torch.float64).log_prob(data()), atol=1e-9, rtol=0)


def test_summaries_and_fingerprints_know_of_them():
    circuit = circuit_with(True, False)
    assert circuit.summary().sourced_parameters == 4 * 3 * 3 + 2 * 2 * 3 + 2 * 2 * 2
    assert circuit.summary().parameters == 24 + 6 + 2
    prints = {fingerprint(circuit_with(logs, shared)) for logs in (True, False) for shared in (True, False)}
    assert len(prints) == 4
    assert fingerprint(circuit) == fingerprint(circuit_with(True, False))


def test_marginals_and_conditionals_are_circuits_again():
    circuit = circuit_with(False, False)
    model = circuit.compile(dtype=torch.float64)
    rest = data().index_fill(1, torch.tensor(0), torch.nan)
    marginal, given = (
        made.compile(dtype=torch.float64) for made in (pc.marginalize(circuit, [0]), pc.condition(circuit, {0: 1}))
    )
    total = model.log_prob(torch.full((1, 4), torch.nan))
    torch.testing.assert_close(marginal.log_prob(rest[:, 1:]), model.log_prob(rest) - total)
    torch.testing.assert_close(given.log_prob(rest[:, 1:]), model.given({0: [1, 1, 1]}).log_prob(rest))


class Scaled(nn.Module):
    """Normal units that share their scale with those of another array, times a factor."""

    def __init__(self, shared, factor):
        super().__init__()
        self.shared, self.factor = shared, factor
        self.loc = nn.Parameter(torch.zeros(1, 2, dtype=torch.float64))

    def parameters_for(self, columns):
        loc = self.loc[:, columns]
        return {"loc": loc, "scale": (self.factor * self.shared.log_scale.exp()).expand_as(loc)}

    def to_config(self):
        return {"factor": self.factor}

    @classmethod
    def from_config(cls, config):
        return cls(LogScale(), config["factor"])


class LogScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float64))


def test_a_parameter_that_is_twice_another_stays_so():
    shared = LogScale()
    one, two = (
        pc.inputs(pc.families.Normal(), label, Sourced(Scaled(shared, f), 1, 2))
        for label, f in (("a", 1.0), ("b", 2.0))
    )
    model = pc.Circuit((one * two).sum([0.5, 0.5])).compile(dtype=torch.float64)
    assert sum(parameter.numel() for parameter in model.program.sources.parameters()) == 5
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([3.0, 6.0])
    for _ in range(3):
        optimizer.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimizer.step()
    file = io.BytesIO()
    pc.save(model, file)
    loaded = pc.load(io.BytesIO(file.getvalue()), types=(Scaled,))
    for circuit in (model.to_circuit(), loaded):
        first, second = (sourced.source for sourced in circuit.sourced())
        assert first.shared.log_scale is second.shared.log_scale
        assert first.shared.log_scale.item() > 0.2
        assert torch.equal(circuit.compile(dtype=torch.float64).log_prob(x), model.log_prob(x))


class Wrong(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def parameters_for(self, columns):
        return self.made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"loc": torch.zeros(1, 1, 2)}, "returns `weights`, which are >= 0, or `log_weights`"),
        ({"weights": torch.ones(1, 1, 2), "log_weights": torch.ones(1, 1, 2)}, "returns `weights`"),
        ({"weights": torch.ones(1, 1, 3)}, r"have shape \(1, 1, 3\); they need \(1, 1, 2\)"),
        ({"weights": torch.tensor([[[1.0, -1.0]]])}, "must be finite and >= 0"),
        ({"log_weights": torch.full((1, 1, 2), torch.nan)}, "not all numbers below infinity"),
    ],
    ids=["name", "two", "shape", "negative", "nan"],
)
def test_what_is_no_weight_is_refused(made, message):
    with pytest.raises(pc.ParameterError, match=message):
        pc.Bernoulli("a", [0.2, 0.8]).sum(Sourced(Wrong(made), 1, 1))


def test_weights_that_become_negative_are_an_error():
    source = Table((1, 1, 2), False)
    model = pc.Circuit(pc.Bernoulli("a", [0.2, 0.8]).sum(Sourced(source, 1, 1))).compile()
    model.program.sources.source_0.parameters_for = lambda columns: {"weights": -torch.ones(1, 1, 2)}
    with pytest.raises(pc.ParameterError, match="negative or NaN"):
        model.log_prob({"a": 1})


def test_regions_that_do_not_fit_are_refused():
    units = pc.Bernoulli(range(3), torch.full((3, 2), 0.5))
    with pytest.raises(pc.ParameterError, match=r"for 2 regions, and .* has 3"):
        units.sum(Sourced(Table((2, 1, 2), True), 2, 1))
    with pytest.raises(pc.ParameterError, match="these are"):
        pc.Mix([units, units], Sourced(Table((2, 1, 2), True), 2, 1))


def test_em_refuses_sources_that_are_trained_and_takes_those_that_are_not():
    circuit, x = circuit_with(True, False), data()
    with pytest.raises(TrainingError, match="Table"):
        em(circuit.compile(dtype=torch.float64), x)
    model = circuit.compile(dtype=torch.float64)
    model.program.sources.requires_grad_(False)
    before = model.log_prob(x).mean().item()
    with pytest.raises(TrainingError, match="weights"):  # those of the other sums need not add up to 1
        em(model, x)
    normalised = pc.normalise(circuit).compile(dtype=torch.float64)
    normalised.program.sources.requires_grad_(False)
    tables = [parameter.clone() for parameter in normalised.program.sources.parameters()]
    em(normalised, x, settings=EMSettings(epochs=2))
    assert normalised.log_prob(x).mean().item() > before
    for one, other in zip(tables, normalised.program.sources.parameters(), strict=True):
        assert torch.equal(one, other)


class Locations(nn.Module):
    """Normals of two variables, and how often they were asked for."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.arange(12, dtype=torch.float64).view(2, 6))
        self.calls = 0

    def parameters_for(self, columns):
        self.calls += 1
        loc = self.loc[:, columns]
        return {"loc": loc, "scale": torch.ones_like(loc)}


@pytest.mark.parametrize("fused", [True, False])
def test_sources_of_leaves_are_asked_once_while_nothing_changes(fused):
    units = pc.inputs(pc.families.Normal(), range(2), Sourced(Locations(), 2, 6)).prod().sum([1 / 6] * 6)
    model = pc.Circuit(units).compile(dtype=torch.float64, rewrites=None if fused else ())
    source, x = model.program.sources.source_0, torch.randn(4, 2, dtype=torch.float64)
    with torch.no_grad():
        before, mean = model.log_prob(x), model.given({0: x[:, 0]}).mean()
        asked = source.calls
        model.log_prob(x)
        model.given({0: x[:, 0]}).mean()
        model.sample(5)
        assert source.calls == asked
        source.loc += 1.0
        torch.testing.assert_close(model.log_prob(x + 1.0), before)
        torch.testing.assert_close(model.given({0: x[:, 0] + 1.0}).mean()[:, 1], mean[:, 1] + 1.0)
    calls = source.calls
    model.log_prob(x).sum().backward()
    assert source.calls == calls + 1  # forward and backward together


def test_functions_of_parameters_can_be_transformed(circuit):
    """A gradient for each row of data, with the parameters of sources among those that are replaced."""
    model = circuit.compile(dtype=torch.float64)
    parameters = dict(model.named_parameters())

    def log_prob(values, row):
        return functional_call(model, values, (row.unsqueeze(0),)).sum()

    x = data()[:1].repeat(3, 1)
    each = vmap(grad(log_prob), in_dims=(None, 0))({n: p.detach() for n, p in parameters.items()}, x)
    want = torch.autograd.grad(model.log_prob(x[:1]).sum(), list(parameters.values()))
    for name, gradient in zip(parameters, want, strict=True):
        torch.testing.assert_close(each[name][2], gradient, atol=1e-9, rtol=1e-9)


def test_graphs_show_weights_from_sources(circuit):
    graph = pc.to_networkx(circuit)
    weights = [edge["weight"] for *_, edge in graph.edges(data=True) if "weight" in edge]
    assert len(weights) == sum(array.num_edges() for array in circuit.sums)
