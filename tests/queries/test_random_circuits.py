"""Every query on random circuits, compiled at random, against the oracle."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcircuits.testing import Oracle
from pcircuits.testing.strategies import boxes, circuits, deterministic_circuits, evidence, rows

EXAMPLES = settings(max_examples=50, deadline=None)
OPTIONS = st.fixed_dictionaries(
    {
        "rewrites": st.none() | st.sets(st.sampled_from(["fold", "fuse", "chain", "layout", "chunk"])),
        "memory": st.sampled_from([None, 1, 3000]),
    }
)


def compiled(circuit, options):
    return circuit.compile(dtype=torch.float64, **options)


def close(got, want, digits=1e-9, size=1.0):
    """|got - want| <= digits · max(size, |want|); infinities exactly."""
    want = torch.tensor(want, dtype=torch.float64)
    assert got.shape == want.shape
    finite = want.isfinite()
    assert torch.equal(got[~finite], want[~finite])
    assert bool(((got - want)[finite].abs() <= digits * want[finite].abs().clamp(min=size)).all()), (got, want)


@EXAMPLES
@given(st.data(), circuits(max_roots=3), OPTIONS)
def test_log_prob(data, circuit, options):
    oracle, model, x = Oracle(circuit), compiled(circuit, options), data.draw(rows(circuit))
    want = [[oracle.log_value(oracle.row(r), k) for k in range(circuit.num_roots)] for r in x.tolist()]
    close(model.log_prob(x), want if circuit.num_roots > 1 else [w for (w,) in want])


@EXAMPLES
@given(st.data(), circuits(), OPTIONS)
def test_conditionals_and_boxes(data, circuit, options):
    oracle, model = Oracle(circuit), compiled(circuit, options)
    known = data.draw(evidence(circuit, possible=True))
    asked = {label: x for label, x in data.draw(evidence(circuit)).items() if label not in known}
    lower, upper = data.draw(boxes(circuit))
    conditional = model.given(known)
    size = 1.0 + abs(oracle.log_value(known))
    close(conditional.log_prob({**known, **asked}), [oracle.log_prob(asked, known)], size=size)
    close(conditional.log_probability(lower, upper), [oracle.log_probability(lower, upper, known)], size=size)


@EXAMPLES
@given(st.data(), circuits(max_roots=2), OPTIONS)
def test_statistics_and_posteriors(data, circuit, options):
    oracle, model = Oracle(circuit), compiled(circuit, options)
    known = data.draw(evidence(circuit, possible=True))
    root = data.draw(st.integers(0, circuit.num_roots - 1))
    conditional = model.root(root).given(known)
    second = oracle.moment(2, known, root)
    size = 1.0 + max(second.values())
    exponent = 1.0 + abs(oracle.log_value(known, root))
    digits = 1e-9 * exponent
    close(conditional.mean(), [list(oracle.mean(known, root).values())], digits, size)
    close(conditional.variance(), [list(oracle.variance(known, root).values())], digits, size)
    close(conditional.moment(2), [list(second.values())], digits, size)
    for array in circuit.sums[-3:]:
        units = [[circuit.unit(array, r, k) for k in range(array.width)] for r in range(array.regions)]
        want = [[oracle.posterior(unit, known, root) for unit in region] for region in units]
        close(conditional.posterior(array), want[0] if array.shape == (1, 1) else [want], digits)


@EXAMPLES
@given(st.data(), deterministic_circuits(), OPTIONS)
def test_most_probable_completions(data, circuit, options):
    oracle, model = Oracle(circuit), compiled(circuit, options)
    known = data.draw(evidence(circuit, possible=True))
    best = model.given(known).map()
    size = 1.0 + abs(oracle.log_value(known))
    close(best.log_prob, [oracle.map(known).log_prob], size=size)
    close(best.log_prob, [oracle.log_prob(oracle.row(best.assignment[0].tolist()), known)], size=size)
    assert bool(best.exact.all())


@EXAMPLES
@given(st.data(), circuits(max_variables=4), OPTIONS)
def test_bounds_of_completions(data, circuit, options):
    oracle, model = Oracle(circuit), compiled(circuit, options)
    known = data.draw(evidence(circuit, possible=True))
    found = model.given(known).map(exact=False)
    size = 1.0 + abs(oracle.log_value(known))
    close(found.log_prob, [oracle.log_prob(oracle.row(found.assignment[0].tolist()), known)], size=size)
    close(found.upper_bound, [oracle.upper_bound(known, circuit.check().determinism.regions)], size=size)
    slack = 1e-9 * max(size, abs(oracle.map(known).log_prob))
    assert found.upper_bound.item() >= oracle.map(known).log_prob - slack
    if found.exact.item() and math.isfinite(found.log_prob.item()):
        assert found.log_prob.item() >= oracle.map(known).log_prob - slack
