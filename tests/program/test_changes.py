"""Answers are those of the parameters of now, however these were changed; copies and states answer as the model does."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.swa_utils import AveragedModel

import pcircuits as pc
from pcircuits import structures
from pcircuits.testing import Oracle

X = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
KNOWN = {"a": 0.5}


def mixture():
    loc = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)
    return pc.Circuit(pc.mixture([0.3, 0.7], pc.Normal(["a", "b"], loc, 1.0).prod()))


def layered():
    """Dense sums, elementwise sums and units read one by one."""
    leaves = pc.Normal(["a", "b"], torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64), 1.0)
    units = leaves.sum(torch.tensor([[0.3, 0.7], [0.9, 0.1]], dtype=torch.float64))
    return pc.Circuit(0.4 * (units[0, 0] * units[1, 1]) + 0.6 * (units[0, 1] * leaves[1, 0]))


def set_new_parameters(model):
    for module in model.modules():
        if isinstance(getattr(module, "raw", None), nn.Parameter):
            module.raw = nn.Parameter(module.raw + 0.5)


def in_place(change):
    """A change of each parameter."""
    return lambda model: [change(p) for p in model.parameters()]


def stepped(make):
    """One step of an optimiser."""

    def step(model):
        with torch.enable_grad():
            optimiser = make(model.parameters())
            (-model.log_prob(X).sum()).backward()
        optimiser.step()

    return step


CHANGES = {
    "copy_": in_place(lambda p: p.copy_(p + 0.5)),
    "data.add_": in_place(lambda p: p.data.add_(0.5)),
    "data =": in_place(lambda p: setattr(p, "data", p.data + 0.5)),
    "set_": in_place(lambda p: p.set_(p + 0.5)),
    "detach().add_": in_place(lambda p: p.detach().add_(0.5)),
    "view of NumPy": in_place(lambda p: p.detach().numpy().__iadd__(0.5)),
    "one element of NumPy": in_place(lambda p: p.detach().numpy().reshape(-1).__setitem__(0, 1.5)),
    "foreach": lambda m: torch._foreach_add_(list(m.parameters()), 0.5),
    "new nn.Parameter": set_new_parameters,
    "vector_to_parameters": lambda m: vector_to_parameters(parameters_to_vector(m.parameters()) + 0.5, m.parameters()),
    "load_state_dict": lambda m: m.load_state_dict({k: v + 0.5 for k, v in m.state_dict().items()}),
    "Adam fused": stepped(lambda p: torch.optim.Adam(p, 0.5, fused=True)),
    "AdamW fused": stepped(lambda p: torch.optim.AdamW(p, 0.5, fused=True)),
    "SGD fused": stepped(lambda p: torch.optim.SGD(p, 0.5, fused=True)),
    "Adagrad fused": stepped(lambda p: torch.optim.Adagrad(p, 0.5, fused=True)),
    "Adam foreach": stepped(lambda p: torch.optim.Adam(p, 0.5, foreach=True)),
}
change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
make = pytest.mark.parametrize("make", [mixture, layered], ids=lambda make: make.__name__)


def answers(model):
    """Some of every kind of pass."""
    known = model.given(KNOWN)
    return [
        model.log_prob(X),
        model.mean(),
        known.variance(),
        known.log_prob({"b": 1.0}),
        known.sample(3, torch.Generator().manual_seed(0)),
        model.log_probability(-1.0, 1.0),
        model.map(exact=False).upper_bound,
    ]


def same(found, wanted):
    return all(torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in zip(found, wanted, strict=True))


@make
@change
def test_answers_follow_every_change(make, change):
    """Twice: what is kept of the first changed parameters must go, too."""
    model = make().compile(dtype=torch.float64)
    with torch.no_grad():
        before = answers(model)
        for _ in range(2):
            change(model)
            answers(model)
        now = answers(model)
        assert not torch.allclose(before[0], now[0])
        assert same(now, answers(model.to_circuit().compile(dtype=torch.float64)))
    oracle = Oracle(model.to_circuit())
    assert now[0][0].item() == pytest.approx(oracle.log_value({"a": X[0, 0].item(), "b": X[0, 1].item()}), rel=1e-9)


@make
@change
def test_conditionals_follow_every_change(make, change):
    """A conditional that was made before the change answers as one that is made after it."""
    model = make().compile(dtype=torch.float64)
    with torch.no_grad():
        known = model.given(KNOWN)
        first = known.mean()
        change(model)
        after, wanted = known.mean(), model.to_circuit().compile(dtype=torch.float64).given(KNOWN)
        assert not torch.allclose(first, after)
        assert torch.allclose(after, wanted.mean(), rtol=1e-10)
        assert torch.allclose(known.log_prob({"b": 0.0}), wanted.log_prob({"b": 0.0}), rtol=1e-10)


def test_answers_under_autocast_are_those_without():
    circuit = layered()
    model = circuit.compile(dtype=torch.float32)
    x = X.float()
    with torch.no_grad():
        want = circuit.compile(dtype=torch.float32).log_prob(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            within = [model.log_prob(x), model.mean(), model.given(KNOWN).variance()]
        without = [model.log_prob(x), model.mean(), model.given(KNOWN).variance()]
    assert torch.equal(without[0], want)
    for one, other in zip(within, without, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    gradients = []
    for enabled in (True, False):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = model.log_prob(x).sum()
        value.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(*gradients)


DISCRETE = {
    "nearly certain": pc.Circuit(pc.Bernoulli("a", 1 - 1e-8)),
    "nearly impossible": pc.Circuit(pc.Categorical("a", [1.0 - 1e-30, 1e-30])),
    "zeros": pc.Circuit(pc.Categorical("a", [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]).sum([0.5, 0.5])),
    "binned": pc.Circuit(pc.DiscretizedNormal("a", [0.2, 0.8], 0.01, levels=4).sum([0.5, 0.5])),
    "counts": pc.Circuit(pc.Poisson("a", [0.5, 30.0]).sum([0.5, 0.5])),
    "fixed": pc.Circuit(0.5 * pc.Indicator("a", 1) + 0.25 * pc.Indicator("a", 0)),
}
COPIES = {
    "deepcopy": copy.deepcopy,
    "deepcopy twice": lambda model: copy.deepcopy(copy.deepcopy(model)),
    "AveragedModel": lambda model: AveragedModel(model).module,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": lambda model: torch.load(_saved(model), weights_only=False),
}


def _saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("circuit", DISCRETE.values(), ids=DISCRETE.keys())
def test_copies_answer_the_same(circuit, copied):
    model = circuit.compile(dtype=torch.float32)
    x = torch.tensor([[0.0], [1.0], [torch.nan]])
    want = model.log_prob(x).detach()  # with gradients: nothing is kept of it
    with torch.no_grad():
        model.log_prob(x)
        twin = copied(model)
        assert torch.equal(twin.log_prob(x), want)
        assert torch.equal(twin.mean(), model.mean())
        drawn = [m.sample(20, torch.Generator().manual_seed(0)) for m in (twin, model)]
        assert torch.equal(*drawn)
    oracle = Oracle(circuit)
    for row, value in zip(x.tolist(), want.tolist(), strict=True):
        assert value == pytest.approx(oracle.log_value(oracle.row(row)), rel=1e-4, abs=1e-6)


REWRITES = [None, (), ("fold",), ("fold", "fuse"), ("layout",), ("fold", "layout"), ("chunk",)]


def grid(seed):
    g = torch.Generator().manual_seed(seed)
    return structures.layered(structures.quad_graph(3, 3), structures.categorical_leaves(4), 3, generator=g)


def products(seed):
    """Unit by unit, in different orders of variables."""
    loc = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    pairs = [pc.Normal("ab"[n % 2], loc[2 * n], 1.0) * pc.Normal("ba"[n % 2], loc[2 * n + 1], 1.0) for n in range(3)]
    return pc.Circuit(0.2 * pairs[0] + 0.3 * pairs[1] + 0.5 * pairs[2])


@pytest.mark.parametrize("to", REWRITES, ids=str)
@pytest.mark.parametrize("come", [None, ()], ids=str)
@pytest.mark.parametrize("make", [grid, products], ids=lambda make: make.__name__)
def test_states_load_across_rewrites(make, come, to):
    """What is saved is keyed by the circuit's own parameters, and strict."""
    model = make(0).compile(dtype=torch.float64, rewrites=come)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.sin(torch.arange(parameter.numel())).view_as(parameter)
    other = make(1).compile(dtype=torch.float64, rewrites=to)
    x = torch.arange(18.0).reshape(2, 9) % 4 if make is grid else X
    with torch.no_grad():
        assert not torch.allclose(other.log_prob(x), model.log_prob(x))
        assert not any(other.load_state_dict(model.state_dict()))
        assert torch.allclose(other.log_prob(x), model.log_prob(x), rtol=1e-12)
    assert list(other.state_dict()) == list(model.state_dict())
    for one, another in zip(other.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(one, another)


def test_keys_of_states_are_those_of_the_circuit():
    circuit = pc.Circuit(pc.mixture([0.25, 0.75], pc.Normal(["a", "b"], [[0.0, 1.0], [2.0, 3.0]], 2.0).prod()))
    for rewrites in (None, ()):
        state = circuit.compile(dtype=torch.float64, rewrites=rewrites).state_dict()
        assert {name: tuple(value.shape) for name, value in state.items()} == {
            f"program.stored.{name}": tuple(p.shape)
            for name, p in zip(("input0.loc", "input0.scale", "sum0.weights"), circuit.parameters(), strict=True)
        }
        torch.testing.assert_close(
            state["program.stored.sum0.weights"].softmax(-1).flatten(), torch.tensor([0.25, 0.75], dtype=torch.float64)
        )


def test_states_of_another_structure_are_refused():
    one = pc.Circuit(pc.Normal(range(3), torch.arange(12.0).view(3, 4), 1.0).prod().sum([0.25] * 4)).compile()
    two = pc.Circuit(pc.Normal(range(4), torch.zeros(4, 3), 1.0).prod().sum([0.25, 0.25, 0.5])).compile()
    with pytest.raises(RuntimeError, match=r"shape \(3, 4\), and the circuit's parameter \(4, 3\)"):
        two.load_state_dict(one.state_dict())
    some = pc.Circuit(pc.Categorical("c", [0.2, 0.3, 0.5])).compile()
    none = pc.Circuit(pc.Categorical("c", [0.0, 0.5, 0.5])).compile()
    for into, state in ((none, some.state_dict()), (some, none.state_dict())):
        with pytest.raises(RuntimeError, match="has its zeros elsewhere"):
            into.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Missing key"):
        layered().compile().load_state_dict(mixture().compile().state_dict())
