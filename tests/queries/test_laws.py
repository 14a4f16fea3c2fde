"""Laws of probability, on random circuits."""

import itertools
import math

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pcircuits as pc
from pcircuits.testing import Enumeration, Oracle
from pcircuits.testing.strategies import circuits, deterministic_circuits, evidence, rows

LAW = settings(max_examples=30, deadline=None)
FEW = settings(max_examples=12, deadline=None)
finite = circuits(densities=False, max_variables=4)


def table(circuit):
    """Every assignment of a circuit of finite support, (n, D)."""
    return torch.tensor(list(Enumeration(circuit).log_values), dtype=torch.float64)


def compiled(circuit, **options):
    return circuit.compile(dtype=torch.float64, **options)


def same(a, b, size=1.0):
    """Equal but for rounding: within 1e-9 · max(size, |b|), infinities exactly."""
    both = a.isfinite() & b.isfinite()
    close = (a - b).abs() <= 1e-9 * b.abs().clamp(min=size)
    return a.shape == b.shape and bool(torch.where(both, close, a == b).all())


@LAW
@given(finite)
def test_a_normalised_circuit_sums_to_one(circuit):
    normalised = pc.normalise(circuit)
    assert same(compiled(normalised).log_prob(table(circuit)).logsumexp(0), torch.zeros(()).double())


@LAW
@given(finite)
def test_a_missing_variable_is_summed_out(circuit):
    model, every = compiled(circuit), table(circuit)
    values = model.log_prob(every)
    for column in range(len(circuit.variables)):
        partial = every.clone()
        partial[:, column] = math.nan
        same_rest = (partial.nan_to_num(nan=-1.0)[:, None] == partial.nan_to_num(nan=-1.0)[None]).all(-1)
        summed = torch.where(same_rest, values[None], -torch.inf).logsumexp(1)
        assert same(model.log_prob(partial), summed)


@FEW
@given(st.data(), circuits(max_variables=4))
def test_marginalising_in_any_order_agrees(data, circuit):
    assume(len(circuit.variables) > 1)
    gone = data.draw(st.permutations(circuit.variables))[: len(circuit.variables) - 1]
    at_once, one_by_one = pc.marginalize(circuit, gone), circuit
    for label in data.draw(st.permutations(gone)):
        one_by_one = pc.marginalize(one_by_one, label)
    assert at_once.variables == one_by_one.variables
    row = data.draw(rows(at_once))
    whole = compiled(circuit)
    column = circuit.variables.index(at_once.variables[0])
    wide = torch.full((len(row), len(circuit.variables)), math.nan, dtype=torch.float64)
    wide[:, column] = row[:, 0]
    total = whole.log_prob({})
    want = whole.log_prob(wide) - total
    size = 1.0 + abs(total.item())
    assert same(compiled(at_once).log_prob(row), want, size)
    assert same(compiled(one_by_one).log_prob(row), want, size)


@LAW
@given(st.data(), circuits())
def test_joint_is_marginal_times_conditional(data, circuit):
    model = compiled(circuit)
    known = data.draw(evidence(circuit, possible=True))
    asked = {label: x for label, x in data.draw(evidence(circuit)).items() if label not in known}
    marginal, joint = model.log_prob(known), model.log_prob({**known, **asked})
    size = 1.0 + max(abs(v.item()) for v in (marginal, joint) if v.isfinite())
    assert same(marginal + model.given(known).log_prob(asked), joint, size)
    if joint.item() > -math.inf:
        chained = model.given(asked).given(known)
        assert same(chained.log_prob({}), torch.zeros(1).double())
        assert same(chained.mean(), model.given({**known, **asked}).mean())


@LAW
@given(st.data(), circuits())
def test_conditioning_is_querying_with_evidence(data, circuit):
    known = data.draw(evidence(circuit, possible=True))
    assume(len(known) < len(circuit.variables))
    rest = pc.condition(circuit, known)
    x = {label: v for label, v in data.draw(evidence(circuit)).items() if label not in known}
    size = 1.0 + abs(Oracle(circuit).log_value(known))
    want = compiled(circuit).given(known).log_prob(x)
    assume(want.item() == -math.inf or want.item() > -600)  # below, posterior weights are no floating-point numbers
    assert same(compiled(rest).log_prob(x), want, size)


@LAW
@given(st.data(), finite)
def test_more_evidence_never_raises_a_mass(data, circuit):
    model = compiled(circuit)
    known = data.draw(evidence(circuit))
    for size in range(len(known)):
        fewer = dict(itertools.islice(known.items(), size))
        more = dict(itertools.islice(known.items(), size + 1))
        assert model.log_prob(more).item() <= model.log_prob(fewer).item() + 1e-9


@LAW
@given(st.data(), circuits())
def test_the_mean_of_an_indicator_is_its_probability(data, circuit):
    model = compiled(circuit)
    known = data.draw(evidence(circuit, possible=True))
    conditional = model.given(known)
    column = data.draw(st.integers(0, len(circuit.variables) - 1))
    label = circuit.variables[column]
    leaves = Oracle(circuit).leaves_of[label]
    assume(all(leaf.states is not None for leaf in leaves))
    size = 1.0 + abs(Oracle(circuit).log_value(known))
    for state in range(max(len(leaf.states) for leaf in leaves)):
        mean = conditional.expectation(lambda x, s=state: x == s)[:, column]
        assert same(conditional.probability({label: state}, {label: state}), mean.double(), size)
        assert same(conditional.log_prob({label: state}).exp(), mean.double(), size) if label not in known else True


@LAW
@given(st.data(), circuits())
def test_variance_is_the_second_moment_about_the_mean(data, circuit):
    conditional = compiled(circuit).given(data.draw(evidence(circuit, possible=True)))
    mean = conditional.mean()
    second = conditional.moment(2)
    size = 1.0 + second.abs().max().item() * 1e3
    assert same(conditional.variance() + mean**2, second, size)
    assert bool((conditional.variance() >= 0).all())
    about = torch.stack([conditional.expectation(lambda x, m=m: (x - m) ** 2)[0, d] for d, m in enumerate(mean[0])])
    assert same(about[None], conditional.variance(), size)


@LAW
@given(deterministic_circuits(densities=False))
def test_an_exact_map_is_at_least_every_assignment(circuit):
    model = compiled(circuit)
    best = model.map()
    values = model.log_prob(table(circuit)) - model.log_prob({})
    assert same(best.log_prob, values.max())
    assert same(model.log_prob(best.assignment) - model.log_prob({}), best.log_prob[None])


@LAW
@given(st.data(), circuits(max_variables=4))
def test_no_completion_passes_the_upper_bound(data, circuit):
    model = compiled(circuit)
    conditional = model.given(data.draw(evidence(circuit, possible=True)))
    found = conditional.map(exact=False)
    drawn = conditional.sample(16, generator=torch.Generator().manual_seed(0))[:, 0]
    others = conditional.log_prob(drawn)
    size = 1.0 + others.abs().max().item()
    assert bool((others <= found.upper_bound + 1e-9 * size).all())
    assert bool(found.log_prob <= found.upper_bound)
    if found.exact.item():
        assert bool((others <= found.log_prob + 1e-9 * size).all())


@FEW
@given(st.data(), circuits(max_roots=2))
def test_evaluation_changes_nothing_and_no_mode_of_autograd_changes_an_answer(data, circuit):
    model = compiled(circuit)
    x = data.draw(rows(circuit))
    kept, values = x.clone(), [p.value.clone() for p in circuit.parameters()]
    first = answers(model, circuit, x)
    with torch.inference_mode():
        second = answers(model, circuit, x)
    with torch.no_grad():
        third = answers(model, circuit, x)
    fourth = answers(model, circuit, x)
    for a, *others in zip(first, second, third, fourth, strict=True):
        assert all(torch.equal(a, b) for b in others)
    assert torch.equal(x.nan_to_num(nan=0.5), kept.nan_to_num(nan=0.5))
    assert all(torch.equal(p.value, v) for p, v in zip(circuit.parameters(), values, strict=True))
    possible = first[0].isfinite()
    if possible.any() and first[0].requires_grad:
        first[0][possible].sum().backward()


def answers(model, circuit, x):
    """One tensor for each query."""
    asked = model.root(0)
    possible = x[(model.log_prob(x).reshape(len(x), -1) > -torch.inf).all(1)]
    known = asked.given(possible)
    found = known.map(exact=False)
    return [
        model.log_prob(x),
        known.log_prob({}),
        known.mean(),
        known.variance(),
        known.moment(3),
        known.expectation(torch.cos),
        known.log_probability(-1.0, 1.5),
        found.assignment,
        found.log_prob,
        found.upper_bound,
        known.sample(2, generator=torch.Generator().manual_seed(0)),
        *[known.posterior(array) for array in circuit.sums[-2:]],
    ]
