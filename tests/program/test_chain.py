"""Chains: which layers become one, and that they answer as the layers did, in turn and side by side."""

import math

import pytest
import torch

import pcircuits as pc
from pcircuits import structures as st
from pcircuits.program.counts import Tally, expected_counts
from pcircuits.program.layers import chain, recursion
from pcircuits.testing.chi_square import chi_square

WITHOUT = ("fold", "fuse", "layout", "chunk")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def simplices(seed, *shape):
    return torch.softmax(2 * torch.randn(shape, generator=seeded(seed), dtype=torch.float64), -1)


def tied(length=40):
    return st.hidden_markov(length, 3, st.categorical_leaves(4), roots=2, generator=seeded(0))


def own(length=40):
    return st.hidden_markov(length, 3, st.normal_leaves(0.0, 2.0), homogeneous=False, generator=seeded(1))


def several_factors(length=40):
    return st.hidden_markov(length, 3, st.bernoulli_leaves(), features=2, generator=seeded(2))


def latents(length=40):
    return pc.with_latents(tied(length))


def side_by_side(length=40):
    """Two chains of one length over other variables, under one product: their steps are rows of the same layers."""
    leaves = pc.Categorical(range(2 * length), simplices(3, 2 * length, 3, 4))
    units = leaves[[0, length]]
    for t in range(1, length):
        units = pc.Product((leaves[[length + t, t]], units.sum(simplices(100 + t, 2, 3, 3))[[1, 0]]))
    return pc.Circuit(units.prod().sum(simplices(4, 3)))


def unnormalised(length=40):
    """Weights of any size, some of which all steps share."""
    leaves = pc.Categorical(range(length), simplices(5, length, 3, 4))
    shared = pc.Parameter(torch.rand((3, 3), generator=seeded(6)).double() * 1e3 + 1e-3, pc.nonnegative)
    units = leaves[0]
    for t in range(1, length):
        weights = shared if t % 3 else torch.rand((1, 3, 3), generator=seeded(200 + t)).double() * 1e-5
        units = pc.Product((units.sum(weights), leaves[t]))
    return pc.Circuit(units.sum(simplices(7, 3)))


def left_to_right(length=40):
    """States that are never returned to: weights of zero."""
    weights = torch.triu(torch.rand((4, 4), generator=seeded(8), dtype=torch.float64) + 0.1)
    weights = weights / weights.sum(-1, keepdim=True)
    start = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    return st.hidden_markov(
        length, 4, st.normal_leaves(0.0, 2.0), initial=start, transitions=weights, generator=seeded(9)
    )


CIRCUITS = {
    make.__name__: make for make in (tied, own, several_factors, latents, side_by_side, unnormalised, left_to_right)
}


def rows(circuit, count):
    """Rows with values missing: none, a tail, all, and here and there."""
    columns = [torch.randn(count, generator=seeded(i)) if s < 1 else torch.randint(s, (count,), generator=seeded(i))
               for i, s in enumerate(circuit.states)]  # fmt: skip
    x = torch.stack([c.double() for c in columns], 1)
    if "z0" in circuit.variables:
        x[:, circuit.variables.index("z0") :] = math.nan
    x[1, 7:] = math.nan
    x[2] = math.nan
    x[3, torch.rand(x.shape[1], generator=seeded(10)) < 0.3] = math.nan
    return x


@pytest.fixture(params=["in turn", "side by side"])
def way(request, monkeypatch):
    """Both ways of going through the steps, whatever the sizes."""
    monkeypatch.setattr(recursion, "MANY", 4 if request.param == "side by side" else 10**9)
    monkeypatch.setattr(recursion, "BUSY", {"cpu": math.inf, "cuda": math.inf})
    return request.param


@pytest.fixture(params=list(CIRCUITS))
def circuit(request):
    return CIRCUITS[request.param]()


def compiled(circuit, **options):
    return circuit.compile(dtype=torch.float64, **options)


def close(got, want, tolerance=1e-11):
    assert got.shape == want.shape
    finite = want.isfinite()
    assert torch.equal(got[~finite], want[~finite])
    assert bool(((got - want)[finite].abs() <= tolerance * want[finite].abs().clamp(min=1.0)).all())


def kinds(model):
    return [type(layer).__name__ for layer in model.program.layers]


def test_long_runs_become_one_layer(circuit):
    model = compiled(circuit)
    (layer,) = (layer for layer in model.program.layers if isinstance(layer, chain.ChainLayer))
    # The last products of two chains become one with the product of both.
    assert layer.steps == (38 if layer.parallel > 1 else 39)
    assert len(model.program.layers) <= 6
    assert len(compiled(circuit, rewrites=WITHOUT).program.layers) > 70
    alone = compiled(circuit, rewrites=("chain",)).program.layers
    nested = "z0" in circuit.variables  # products of products, which only merging makes steps of
    assert sum(isinstance(layer, chain.ChainLayer) for layer in alone) == (0 if nested else 1)


def test_what_is_read_elsewhere_ends_a_chain():
    """A step that something else reads keeps its place, and so do the steps around it."""
    leaves = pc.Categorical(range(9), simplices(11, 9, 2, 3))
    units, kept = leaves[0], None
    for t in range(1, 9):
        units = pc.Product((leaves[t], units.sum(simplices(20 + t, 2, 2))))
        kept = units if t == 4 else kept
    rest = leaves[5:9].prod()
    circuit = pc.Circuit(0.5 * units.sum([0.3, 0.7]) + 0.5 * (kept * rest).sum([0.6, 0.4]))
    model = compiled(circuit)
    assert [s.steps for s in model.program.layers if isinstance(s, chain.ChainLayer)] == [4, 4]
    x = torch.randint(3, (5, 9), generator=seeded(12)).double()
    close(model.log_prob(x), compiled(circuit, rewrites=()).log_prob(x))


def test_trees_keep_their_layers():
    circuit = st.layered(st.quad_graph(4, 4), st.categorical_leaves(2), 3, generator=seeded(13))
    assert "ChainLayer" not in kinds(compiled(circuit))


@pytest.mark.usefixtures("way")
def test_values_means_and_posteriors(circuit):
    x = rows(circuit, 6)
    one, other = compiled(circuit), compiled(circuit, rewrites=WITHOUT)
    close(one.log_prob(x).detach(), other.log_prob(x).detach())
    with torch.no_grad():
        close(one.log_prob(x), other.log_prob(x))
    given, known = one.root(0).given(x), other.root(0).given(x)
    close(given.mean(), known.mean())
    close(given.variance(), known.variance(), 1e-10)
    for array in circuit.sums[:: len(circuit.sums) // 5]:
        close(given.posterior(array), known.posterior(array))
    for query in (lambda model: model.map(exact=False).upper_bound, lambda model: model.log_probability(-0.5, 1.5)):
        close(query(given), query(known), 1e-10)


@pytest.mark.usefixtures("way")
def test_gradients_are_those_of_the_circuit(circuit, raw_gradients):
    x = rows(circuit, 6)
    found = [
        raw_gradients(model, model.log_prob(x).sum())
        for model in (compiled(circuit), compiled(circuit, rewrites=WITHOUT))
    ]
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        close(gradient, found[1][key], 1e-10)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["tied", "own", "side_by_side", "left_to_right"])
def test_expected_counts(name):
    """What expectation-maximisation counts, in scaled numbers and in logarithms (impossible or far rows)."""
    circuit = CIRCUITS[name]()
    x = rows(circuit, 5)
    if name == "own":
        x[4, 3] = 1e4
    found = []
    for rewrites in (None, WITHOUT):
        model = compiled(circuit, rewrites=rewrites)
        tally = Tally(model.program)
        counts, _ = expected_counts(tally, x.nan_to_num(0.0), ~x.isnan())
        found.append(torch.cat([value.double().flatten() for value in counts.tensors.values()]).sort().values)
    close(*found, 1e-9)  # of all parameters in the order of their size, since they are stored in others


@pytest.mark.usefixtures("way")
def test_gradients_of_data():
    circuit = own()
    x = rows(circuit, 4)[:1].requires_grad_()
    (one,) = torch.autograd.grad(compiled(circuit).log_prob(x).sum(), x)
    (other,) = torch.autograd.grad(compiled(circuit, rewrites=WITHOUT).log_prob(x).sum(), x)
    close(one, other)


def test_second_derivatives_and_transforms():
    circuit = own(5)
    model = compiled(circuit)
    x = rows(circuit, 4)[:1].nan_to_num(0.25)
    assert torch.autograd.gradgradcheck(model.log_prob, (x.requires_grad_(),))
    batched = torch.func.vmap(lambda row: model.log_prob(row.unsqueeze(0))[0])(x.detach().expand(2, -1))
    close(batched.detach(), model.log_prob(x.detach().expand(2, -1)).detach())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", list(CIRCUITS))
def test_float32_is_right_or_computed_again(name):
    circuit = CIRCUITS[name]()
    x = rows(circuit, 6)
    got = circuit.compile(dtype=torch.float32).log_prob(x.float()).detach().double()
    close(got, compiled(circuit, rewrites=()).log_prob(x).detach(), 1e-4)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 0.05, 1e-3])
def test_leaves_that_differ_by_any_power(dtype, scale):
    """Densities so far apart that numbers cannot hold them: such rows are noticed, and computed in logarithms."""

    def leaves(variables, width, generator):
        return pc.Normal(variables, torch.randn((1, width), generator=generator, dtype=torch.float64), scale)

    weights = torch.softmax(20 * torch.randn((4, 4), generator=seeded(14), dtype=torch.float64), -1)
    circuit = st.hidden_markov(50, 4, leaves, transitions=weights, generator=seeded(15))
    x = torch.randn((8, 50), generator=seeded(16), dtype=torch.float64)
    exact = compiled(circuit, rewrites=())
    with torch.no_grad():
        want = pc.program.passes._in_logs(exact.program, *_density(x))
        got = circuit.compile(dtype=dtype).log_prob(x.to(dtype)).double()
    close(got, (want[0] + want[1])[:, 0] * math.log(2), 1e-4 if dtype == torch.float32 else 1e-9)


def _density(x):
    return pc.program.leaf_functions.Density(x, x == x), None


@pytest.mark.usefixtures("way")
def test_impossible_rows_are_exactly_zero_and_have_no_gradient():
    def leaves(variables, width, generator):
        return pc.Categorical(variables, torch.eye(3, dtype=torch.float64).unsqueeze(0))

    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    circuit = st.hidden_markov(20, 3, leaves, initial=[[1.0, 0.0, 0.0]], transitions=weights, generator=seeded(17))
    model = compiled(circuit)
    x = torch.zeros((3, 20), dtype=torch.float64)
    x[1, 10:], x[2, 10] = 1.0, 2.0  # from 0 to 2 there is no way
    values = model.log_prob(x)
    values[:2].sum().backward()
    want = torch.tensor([19.0, 9 + 1 + 9, math.inf], dtype=torch.float64) * -math.log(2)
    close(values.detach(), want, 1e-13)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    model.zero_grad()
    model.log_prob(x[2:]).sum().backward()
    assert all(not bool(p.grad.any()) for p in model.parameters() if p.grad is not None)


@pytest.mark.usefixtures("way")
def test_impossible_rows_beside_possible_ones():
    """A letter that no state emits, under weights without a zero; gradients are those of the other rows."""

    def leaves(variables, width, generator):
        return pc.Categorical(variables, [[[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]])

    circuit = st.hidden_markov(40, 2, leaves, generator=seeded(21))
    model = compiled(circuit)
    x = torch.randint(2, (3, 40), generator=seeded(22)).double()
    alone = torch.autograd.grad(model.log_prob(x[[0, 2]]).sum(), list(model.parameters()))
    x[1, 17] = 2.0
    values = model.log_prob(x)
    assert values[1].item() == -math.inf
    assert bool(values[[0, 2]].isfinite().all())
    for one, other in zip(torch.autograd.grad(values.sum(), list(model.parameters())), alone, strict=True):
        close(one, other)


def test_weights_of_zero_need_no_logarithms(monkeypatch):
    """Where no number comes near the smallest, long chains with zeros among their weights have bounds as any other."""
    circuit = left_to_right(300)
    x = torch.randn((4, 300), generator=seeded(18), dtype=torch.float64)
    want = compiled(circuit, rewrites=()).log_prob(x).detach()
    monkeypatch.setattr(pc.program.passes, "_again", None)
    with torch.no_grad():
        close(compiled(circuit).log_prob(x), want)


@pytest.mark.parametrize("at_once", [0, 2**22])
@pytest.mark.parametrize("given", [False, True])
def test_samples(at_once, given, monkeypatch):
    monkeypatch.setattr(chain, "AT_ONCE", at_once)
    circuit = st.hidden_markov(5, 2, st.bernoulli_leaves(), generator=seeded(19))
    model = compiled(circuit)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 5)
    evidence = torch.full((1, 5), math.nan, dtype=torch.float64)
    if given:
        evidence[0, 2] = 1.0
        every = every[every[:, 2] == 1.0]
    asked = model.given(evidence)
    samples = torch.cat([asked.sample(20, generator=seeded(s))[:, 0] for s in range(100)])
    counts = (samples.unsqueeze(1) == every).all(-1).sum(0)
    assert int(counts.sum()) == len(samples)
    assert chi_square(counts.numpy(), asked.log_prob(every).exp().detach().numpy()) > 1e-4


@pytest.mark.parametrize("at_once", [0, 2**22])
def test_best_paths(at_once, monkeypatch):
    """Both ways down find what layers without chains find, in rows that ask for all latents and in rows that do not."""
    monkeypatch.setattr(chain, "AT_ONCE", at_once)
    circuit = latents()
    x = rows(circuit, 5)
    wanted = torch.zeros(x.shape, dtype=torch.bool)
    wanted[:, 40:] = True
    for mask in (wanted[:1], wanted.clone().index_fill_(1, torch.arange(60, 80), False)):
        one, other = (
            m.root(1).given(x).marginal_map(mask) for m in (compiled(circuit), compiled(circuit, rewrites=()))
        )
        close(one.log_prob, other.log_prob)
        assert torch.equal(one.assignment.nan_to_num(-1.0), other.assignment.nan_to_num(-1.0))
    ragged = wanted.clone()
    for row in range(5):
        ragged[row, 45 + 7 * row :] = False
    one, other = (m.root(1).given(x).marginal_map(ragged) for m in (compiled(circuit), compiled(circuit, rewrites=())))
    close(one.log_prob, other.log_prob)
    assert torch.equal(one.assignment.nan_to_num(-1.0), other.assignment.nan_to_num(-1.0))


def test_parameters_are_saved_as_without():
    circuit = tied()
    one, other = compiled(circuit), compiled(circuit, rewrites=())
    assert one.state_dict().keys() == other.state_dict().keys()
    one.log_prob(rows(circuit, 6)).sum().backward()
    torch.optim.SGD(one.parameters(), lr=1e-2).step()
    other.load_state_dict(one.state_dict())
    close(one.log_prob(rows(circuit, 6)).detach(), other.log_prob(rows(circuit, 6)).detach())
    assert len(list(one.to_circuit().parameters())) == 3
