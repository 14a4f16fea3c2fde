"""Composed circuits against sums over all codes by hand, and against the suite for structures."""

import itertools
import math
from types import SimpleNamespace

import networkx as nx
import pytest
import torch
from torch import nn

import pcircuits as pc
import vq_sources as vq
from pcircuits import structures
from pcircuits.errors import CircuitError, ParameterError
from pcircuits.testing import check_structure

LEVELS, SHAPE, GRID, K = 3, (2, 4), (1, 2), 3


def tiny(family, position_dim=2, grid=GRID):
    config = vq.PatchVQVAEConfig(
        data_shape=SHAPE, levels=LEVELS, grid=grid, num_codes=K, hidden=4, hidden_at_image=4, codebook_dim=4,
        family=family, min_std=0.1, position_dim=position_dim,
    )  # fmt: skip
    model = vq.PatchVQVAE(config, torch.Generator().manual_seed(1)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare((images(60),))
    return model.eval()


def images(n, seed=0):
    return torch.randint(LEVELS, (n, *SHAPE), generator=torch.Generator().manual_seed(seed))


def hidden_markov(roots=1):
    leaves = structures.categorical_leaves(K)
    generator = torch.Generator().manual_seed(2)
    return structures.layered(structures.chain(["first", "second"]), leaves, 2, roots=roots, generator=generator)


def log_unit(family, x, parameters):
    """log p(x) of one pixel, in plain Python."""
    if isinstance(family, pc.families.Categorical):
        return math.log(parameters["probs"][int(x)])
    loc, scale = parameters["loc"], parameters["scale"]
    if isinstance(family, pc.families.Normal):
        return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)

    def below(edge):
        return 1 / (1 + math.exp(-(edge / LEVELS - loc) / scale))

    lower = 0.0 if x == 0 else below(x)
    upper = 1.0 if x == LEVELS - 1 else below(x + 1)
    return math.log(upper - lower)


def log_sum(terms):
    top = max(terms)
    return top + math.log(math.fsum(math.exp(t - top) for t in terms))


def by_hand(source, prior, x):
    """log Σ_z p(z) Π_v p(x_v | z), code by code: the prior is asked for p(z), and everything else is written out."""
    codes = torch.tensor(list(itertools.product(*map(range, source.cardinalities))))
    log_prior = prior.compile(dtype=torch.float64).log_prob(codes.double()).reshape(len(codes), -1).T.tolist()
    made = {name: value.tolist() for name, value in source.likelihood(codes).items()}
    columns = []
    for weights in log_prior:
        column = []
        for row in x.tolist():
            terms = []
            for z, weight in enumerate(weights):
                units = [{name: value[z][v] for name, value in made.items()} for v in range(len(row))]
                parts = [log_unit(source.family, v, unit) for v, unit in zip(row, units, strict=True)]
                terms.append(weight + math.fsum(parts))
            column.append(log_sum(terms))
        columns.append(column)
    return torch.tensor(columns, dtype=torch.float64).T


FAMILIES = [pc.families.Normal(), pc.families.DiscretizedLogistic(LEVELS), pc.families.Categorical(LEVELS)]


def rows(family, n=5):
    flat = images(n, seed=3).flatten(1).double()
    return flat if family.base == "counting" else (flat + 0.3) / LEVELS


@pytest.mark.parametrize("eager", [False, True], ids=["source", "eager"])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("roots", [1, 2], ids="{} roots".format)
def test_it_is_the_sum_over_all_codes(family, eager, roots):
    model, prior = tiny(family), hidden_markov(roots)
    circuit = vq.compose(model, prior, eager=eager)
    x = rows(family)
    got = circuit.compile(dtype=torch.float64).log_prob(x).reshape(len(x), -1)
    torch.testing.assert_close(got.detach(), by_hand(model, prior, x), rtol=1e-12, atol=1e-12)


def structures_over_four():
    leaves, generator = structures.categorical_leaves(K), torch.Generator().manual_seed(5)
    codes = torch.randint(K, (50, 4), generator=torch.Generator().manual_seed(6))
    tucker = structures.Tucker()
    random = structures.random_binary_tree(range(4), 1, 2, generator)
    return {
        "quad graph": structures.layered(structures.quad_graph(2, 2), leaves, 2, generator=generator),
        "Tucker": structures.layered(structures.binary_quad_tree(2, 2), leaves, 2, tucker, generator=generator),
        "hidden tree": structures.hidden_tree(nx.star_graph(3), leaves, 2, generator=generator),
        "observed tree": structures.observed_tree(structures.chow_liu_tree(codes), codes),
        "hidden Markov model": structures.hidden_markov(4, 2, leaves, generator=generator),
        "random": structures.layered(random, leaves, 2, generator=generator),
    }


@pytest.mark.parametrize("name", structures_over_four())
def test_any_structure_over_codes_composes(name):
    model, prior = tiny(pc.families.DiscretizedLogistic(LEVELS), grid=(2, 2)), structures_over_four()[name]
    circuit, x = vq.compose(model, prior), rows(model.family, 3)
    got = circuit.compile(dtype=torch.float64).log_prob(x).detach()
    torch.testing.assert_close(got, by_hand(model, prior, x)[:, 0], rtol=1e-12, atol=1e-12)
    assert circuit.check().normalised
    assert circuit.compile().sample(50, torch.Generator().manual_seed(7)).shape == (50, 8)


@pytest.mark.parametrize(
    ("family", "eager"), [(FAMILIES[0], False), (FAMILIES[2], True)], ids=["Normal", "Categorical"]
)
def test_every_query_agrees_with_the_oracle_under_every_rewrite(family, eager):
    circuit = vq.compose(tiny(family), hidden_markov(), eager=eager)
    check_structure(circuit, types=(vq.DecoderSource,), rows=2, draws=500)


def test_of_a_distribution_over_whole_codes_it_is_the_distilled_circuit():
    """A mixture of indicators of each code, with its weight: what `distil` writes out."""
    model = tiny(pc.families.Normal())
    prior = vq.IndependentPrior(GRID, K).double()
    with torch.no_grad():
        prior.logits.add_(torch.randn(prior.logits.shape, generator=torch.Generator().manual_seed(4)))
    every = vq.selection.enumerate(prior)
    indicators = pc.Indicator(range(2), every.codes.T.double())
    circuit = vq.compose(model, pc.Circuit(indicators.prod().sum(every.log_weights.exp())))
    assert len(circuit.sums) == 1  # an indicator of a code is the patch itself
    x = rows(model.family)
    want = vq.distil(model, every, weights="bound").compile(dtype=torch.float64).log_prob(x)
    torch.testing.assert_close(circuit.compile(dtype=torch.float64).log_prob(x), want, rtol=1e-12, atol=1e-12)


class Ragged(nn.Module):
    """Two positions with 2 and 3 codes, over one and two variables that are not in order."""

    cardinalities, patches, family = (2, 3), ((1,), (2, 0)), pc.families.Bernoulli()
    data_shape, levels, grid = (1, 3), 2, (1, 2)

    def __init__(self):
        super().__init__()
        table = torch.rand((3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.table = nn.Parameter(table)

    def likelihood(self, codes):
        position = torch.tensor([1, 0, 1])
        return {"probs": self.table[codes[:, position], torch.arange(3)]}


def ragged_prior():
    one = pc.Bernoulli("z", torch.tensor([[0.3, 0.9]], dtype=torch.float64))
    other = pc.Categorical("y", torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]], dtype=torch.float64))
    return pc.Circuit((one * other).sum([0.25, 0.75]), variables=["z", "y"])


def test_positions_may_have_other_numbers_of_codes_and_variables():
    source, prior = Ragged(), ragged_prior()
    model = vq.compose(source, prior).compile(dtype=torch.float64)
    every = torch.tensor(list(itertools.product(range(2), repeat=3)))
    table, total = source.table.tolist(), torch.zeros(8, dtype=torch.float64)
    weights = {(0, j): 0.25 * 0.7 * (0.2, 0.3, 0.5)[j] + 0.75 * 0.1 * (0.6, 0.4, 0.0)[j] for j in range(3)}
    weights |= {(1, j): 0.25 * 0.3 * (0.2, 0.3, 0.5)[j] + 0.75 * 0.9 * (0.6, 0.4, 0.0)[j] for j in range(3)}
    for n, (a, b, c) in enumerate(every.tolist()):
        for (i, j), weight in weights.items():
            ones = (table[j][0], table[i][1], table[j][2])
            total[n] += weight * math.prod(p if x else 1 - p for p, x in zip(ones, (a, b, c), strict=True))
    torch.testing.assert_close(model.log_prob(every.double()).detach().exp(), total, rtol=1e-12, atol=0)
    assert model.circuit.variables == (0, 1, 2)


def test_ties_of_the_prior_stay_ties():
    probs = pc.Parameter(torch.tensor([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]], dtype=torch.float64), pc.simplex)
    prior = pc.Circuit(pc.Categorical([0, 1], probs).prod().sum([0.5, 0.5]))
    circuit = vq.compose(tiny(pc.families.Normal()), prior, eager=True)
    of_codes = [p for p in circuit.parameters() if p.constraint is pc.simplex]
    assert [tuple(p.shape) for p in of_codes] == [(2, 3)]  # one table for both positions


def test_a_homogeneous_model_over_codes_keeps_one_table_of_codes():
    leaves, generator = structures.categorical_leaves(K), torch.Generator().manual_seed(5)
    prior = structures.hidden_markov(4, 2, leaves, generator=generator)
    circuit = vq.compose(tiny(pc.families.Normal(), grid=(2, 2)), prior)
    assert [p.shape.numel() for p in circuit.parameters()] == [p.shape.numel() for p in prior.parameters()]


def test_the_decoder_trains_through_the_circuit_and_the_original_stays():
    model = tiny(pc.families.DiscretizedLogistic(LEVELS))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compiled = vq.compose(model, hidden_markov()).compile(dtype=torch.float64)
    x = rows(model.family)
    first = -compiled.log_prob(x).mean()
    first.backward()
    with torch.no_grad():
        for parameter in compiled.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    assert -compiled.log_prob(x).mean() < first
    moved = [name for name, p in compiled.named_parameters() if p.grad is not None and bool(p.grad.any())]
    assert any("decoder.body" in name for name in moved)
    assert any("weights" in name for name in moved)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Mixing(Ragged):
    """The second variable depends on both codes."""

    def likelihood(self, codes):
        made = super().likelihood(codes)["probs"]
        return {"probs": torch.cat([made[:, :1], made[:, 1:2] * (1 + codes[:, 1:]) / 3, made[:, 2:]], 1)}


class Uncovered(Ragged):
    patches = ((1,), (2,))


@pytest.mark.errors
@pytest.mark.parametrize(
    ("source", "prior", "says"),
    [
        (
            Mixing(),
            ragged_prior(),
            r"probs of variable 1, which is in the patch of position 0, depends on the codes of",
        ),
        (Uncovered(), ragged_prior(), "each variable in one of them"),
        (Ragged(), pc.Circuit(pc.Bernoulli("z", 0.5)), "over 1 variables, and the source has 2 positions"),
        (
            Ragged(),
            pc.Circuit(pc.Categorical([0, 1], torch.full((2, 1, 3), 1 / 3)).prod()),
            r"code 2 of position 0, and the source has the codes 0\.\.1",
        ),
        (Ragged(), pc.Circuit(pc.Indicator(0, 1) * pc.Indicator(1, 4)), "code 4 of position 1"),
        (Ragged(), pc.Circuit(pc.Poisson([0, 1], [[1.0], [1.0]]).prod()), "over finitely many states"),
    ],
    ids=["mixing", "uncovered", "one variable", "more codes", "indicator", "Poisson"],
)
def test_what_does_not_compose_says_why(source, prior, says):
    with pytest.raises(ParameterError, match=says):
        vq.compose(source, prior)


@pytest.mark.errors
def test_a_decoder_that_is_no_module_is_composed_eagerly():
    model = tiny(pc.families.Normal())
    names = ("cardinalities", "patches", "family", "grid", "data_shape", "levels", "likelihood")
    plain = SimpleNamespace(**{name: getattr(model, name) for name in names})
    with pytest.raises(CircuitError, match="eager=True"):
        vq.compose(plain, hidden_markov())
    x = rows(model.family)
    got = vq.compose(plain, hidden_markov(), eager=True).compile(dtype=torch.float64).log_prob(x)
    torch.testing.assert_close(got.detach(), by_hand(model, hidden_markov(), x)[:, 0], rtol=1e-12, atol=1e-12)
