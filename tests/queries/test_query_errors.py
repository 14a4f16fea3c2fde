"""What queries refuse, as a user's code meets it; and what an empty batch, and shapes at the edge, give."""

import math
import re

import pytest
import torch

import pcircuits as pc
from pcircuits.errors import CircuitError, EvidenceError, PropertyError, ScopeError

pytestmark = pytest.mark.errors


@pytest.fixture
def rain(named_case):
    return named_case("rain").circuit.compile(dtype=torch.float64)


@pytest.fixture
def classes(named_case):
    return named_case("several_roots").circuit.compile(dtype=torch.float64)


@pytest.fixture
def pixels(named_case):
    return named_case("normal_mixture").circuit.compile(dtype=torch.float64)


SURE = pc.Circuit(1.0 * (pc.Indicator("a", 0) * pc.Bernoulli("b", [0.25, 1.0])).sum([0.5, 0.5]))


def test_rows_of_probability_zero_are_named_at_once():
    model = SURE.compile()
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, math.nan]])
    assert model.log_prob(x)[[1, 3]].tolist() == [-math.inf, -math.inf]
    with pytest.raises(EvidenceError, match=r"the evidence in rows 1, 3 has probability zero"):
        model.given(x)
    with pytest.raises(EvidenceError, match=r"the evidence in row 0 has probability zero"):
        model.given({"a": 1})
    with pytest.raises(EvidenceError, match=r"rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. has"):
        model.given({"a": torch.ones(12)})


def test_contradictions(rain):
    known = rain.given({"rain": [0, 1]})
    with pytest.raises(EvidenceError, match=r"row 1 says 'rain' is 0, but the evidence given before says 1"):
        known.log_prob({"rain": 0})
    with pytest.raises(EvidenceError, match=r"row 0 says 'rain' is 1"):
        known.given({"rain": 1})
    assert torch.equal(known.log_prob({"rain": [0, 1]}), torch.zeros(2).double())


def test_rows_that_do_not_go_together(rain):
    with pytest.raises(EvidenceError, match="2 rows of evidence do not go with 3 rows"):
        rain.given({"rain": [0, 1]}).log_prob({"wet": [0, 1, 1]})
    with pytest.raises(EvidenceError, match="2 rows of evidence do not go with 3 rows"):
        rain.given({"rain": [0, 1]}).probability(torch.zeros(3, 2), 1.0)


@pytest.mark.parametrize(
    "query", ["mean", "variance", "sample", "map", "probability", "posterior", "moment", "expectation"]
)
def test_several_roots_need_a_choice(classes, query):
    arguments = {
        "sample": (1,),
        "probability": (0.0, 1.0),
        "posterior": (classes.circuit.root,),
        "moment": (1,),
        "expectation": (torch.cos,),
    }
    for model in (classes, classes.given({"kind": 0})):
        with pytest.raises(
            CircuitError, match=rf"needs one root, and this circuit has 3: ask model\.root\(i\)\.{query}"
        ):
            getattr(model, query)(*arguments.get(query, ()))


@pytest.mark.parametrize("index", [3, -1, [0, 3]])
def test_roots_that_do_not_exist(classes, index):
    with pytest.raises(CircuitError, match=r"does not exist: the circuit has 3, numbered from 0"):
        classes.root(index)


@pytest.mark.parametrize("index", [0.0, True, [[0]], "first", None])
def test_what_is_not_a_root(classes, index):
    with pytest.raises(CircuitError, match="a root is an int, or"):
        classes.root(index)


def test_a_root_for_each_row(classes):
    with pytest.raises(CircuitError, match="2 roots were chosen for 3 rows"):
        classes.root([0, 1]).log_prob(torch.zeros(3, 3))
    with pytest.raises(CircuitError, match="2 roots were chosen for 3 rows"):
        classes.given({"kind": [0, 1, 2]}).root([0, 1]).mean()


def test_a_deterministic_circuit_is_needed(pixels):
    with pytest.raises(PropertyError, match=r"map needs a deterministic circuit.*map\(exact=False\)"):
        pixels.map()


def test_posteriors_are_of_sums_of_the_circuit(rain, pixels):
    for units in (pixels.circuit.root, rain.circuit.inputs[0], "root", rain.circuit.unit(rain.circuit.inputs[0])):
        with pytest.raises(CircuitError, match="posterior is about the sum units of this circuit"):
            rain.posterior(units)


@pytest.mark.parametrize("order", [0, -1, 1.5, "2"])
def test_orders_of_moments(rain, order):
    with pytest.raises(CircuitError, match=re.escape(f"is {order!r}: it must be an integer >= 1")):
        rain.moment(order)


@pytest.mark.parametrize("number", [-1, 2.0, "2"])
def test_numbers_of_samples(rain, number):
    with pytest.raises(CircuitError, match=re.escape(f"is {number!r}: it must be an integer >= 0")):
        rain.sample(number)


@pytest.mark.parametrize(
    ("bound", "error", "says"),
    [
        (torch.zeros(3), EvidenceError, r"a bound has shape \(1, 3\); it needs \(2,\), \(B, 2\), or a dict"),
        (torch.zeros(1, 1, 2), EvidenceError, r"a bound has shape \(1, 1, 2\)"),
        (math.nan, EvidenceError, "a bound is NaN"),
        ({"wet": math.nan}, EvidenceError, "a bound is NaN"),
        ({"snow": 0.0}, ScopeError, "no variable 'snow'"),
        ("low", EvidenceError, "a bound is a number, a tensor, or a dict from variables to numbers, not 'low'"),
    ],
)
def test_bounds(rain, bound, error, says):
    with pytest.raises(error, match=says):
        rain.probability(bound, 1.0)


def test_compile_options(rain):
    circuit = rain.circuit
    with pytest.raises(
        CircuitError, match=r"unknown rewrites \['fuze'\]: there are \['fold', 'fuse', 'chain', 'layout', 'chunk'\]"
    ):
        circuit.compile(rewrites=["fold", "fuze"])
    with pytest.raises(CircuitError, match=r"memory, a number of bytes .* is 0: it must be an integer >= 1"):
        circuit.compile(memory=0)
    with pytest.raises(CircuitError, match=r"float32 or torch\.float64, not torch\.int64"):
        circuit.compile(dtype=torch.int64)


@pytest.mark.parametrize(
    ("circuit", "says"),
    [
        (pc.Circuit(0.5 * pc.Bernoulli("a", 0.5) + 0.5 * pc.Bernoulli("b", 0.5)), r"smooth .*\{'a'\} and \{'b'\}"),
        (pc.Circuit(pc.Bernoulli("a", 0.5) * pc.Bernoulli("a", 0.5)), r"decomposable .*share \{'a'\}"),
        (pc.Circuit(0.5 * pc.Bernoulli("a", 0.5) + 0.5 * pc.Normal("a", 0, 1)), r"homogeneous .*variable 'a'"),
    ],
)
def test_compile_names_the_witness(circuit, says):
    with pytest.raises(PropertyError, match=rf"compile needs a {says}"):
        circuit.compile()


@pytest.mark.parametrize("name", ["rain", "normal_mixture", "discretised_mixture", "sourced", "layered", "gated"])
@pytest.mark.parametrize("rewrites", [None, ()])
def test_an_empty_batch_gives_empty_answers(named_case, name, rewrites):
    circuit = named_case(name).circuit
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    columns = len(circuit.variables)
    nothing = torch.zeros(0, columns, dtype=torch.float64)
    assert model.log_prob(nothing).shape == (0,)
    known = model.given(nothing)
    assert known.log_prob(nothing).shape == (0,)
    assert known.log_prob(torch.full((1, columns), math.nan)).shape == (0,)
    assert known.probability(0.0, 1.0).shape == (0,)
    assert model.probability(nothing, 1.0).shape == (0,)
    assert known.sample(3).shape == (3, 0, columns)
    assert model.sample(0).shape == (0, columns)
    for answer in (known.mean(), known.variance(), known.moment(2), known.expectation(torch.cos)):
        assert answer.shape == (0, columns)
        assert answer.dtype == torch.float64
    array = circuit.sums[-1]
    shape = known.posterior(array).shape
    assert shape[0] == 0
    assert shape[1:] == model.posterior(array)[None].shape[1:]
    best = known.map(exact=False)
    assert best.assignment.shape == (0, columns)
    assert best.log_prob.shape == best.upper_bound.shape == best.exact.shape == (0,)
    assert best.exact.dtype == torch.bool


def test_an_empty_batch_of_several_roots(classes):
    assert classes.log_prob(torch.zeros(0, 3)).shape == (0, 3)
    none = classes.root(torch.zeros(0, dtype=torch.int64))
    assert none.mean().shape == (0, 3)
    assert none.sample(2).shape == (2, 0, 3)


def test_one_row_is_a_batch_where_it_was_given_as_one(rain):
    assert rain.mean().shape == (2,)
    assert rain.given({"wet": 1}).mean().shape == (1, 2)
    assert rain.sample(3).shape == (3, 2)
    assert rain.given({}).sample(3).shape == (3, 1, 2)
    assert rain.probability(0.0, 1.0).shape == ()
    assert rain.probability({"wet": 0.0}, {"wet": 0.0}).shape == ()
    assert rain.probability({"wet": [0.0]}, {"wet": 0.0}).shape == (1,)
    assert rain.probability(torch.zeros(1, 2), 1.0).shape == (1,)
    assert rain.probability(torch.zeros(2), [1.0, 1.0]).shape == ()
    assert rain.probability({"wet": [0.0, 1.0]}, 1.0).tolist() == pytest.approx([1.0, 0.26])
    assert rain.log_prob(torch.zeros(2)).shape == (1,)


def test_roots_and_rows_repeat_each_other(classes, named_case):
    oracle = named_case("several_roots").oracle
    row = {"kind": 1.0, 0: 0.5}
    want = [oracle.log_value(row, root) for root in (2, 0)]
    assert classes.root([2, 0]).log_prob({"kind": 1, 0: 0.5}).tolist() == pytest.approx(want, rel=1e-12)
    means = classes.root([2, 0]).given({"kind": 1}).mean()
    for mean, root in zip(means, (2, 0), strict=True):
        assert mean.tolist() == pytest.approx(list(oracle.mean({"kind": 1.0}, root).values()), rel=1e-12)


def test_a_root_that_the_evidence_rules_out_is_minus_infinity_for_what_follows():
    rain = pc.Indicator("rain", 0) * pc.Bernoulli("wet", 0.25)
    both = rain.prod(), (0.5 * rain + 0.5 * (pc.Indicator("rain", 1) * pc.Bernoulli("wet", 0.5))).units
    model = pc.Circuit([both[0], both[1]]).compile(dtype=torch.float64)
    known = model.given({"rain": 1})
    assert known.log_prob({"wet": 1}).tolist() == [[-math.inf, pytest.approx(math.log(0.5))]]
    assert known.root(1).mean().tolist() == [[1.0, 0.5]]
    with pytest.raises(EvidenceError, match="row 0 has probability zero"):
        known.root(0).mean()
    with pytest.raises(EvidenceError, match="row 0 has probability zero"):
        known.root(0).log_prob({"wet": 1})


def test_the_posterior_of_a_combination_is_that_of_its_sum_unit():
    both = 0.25 * pc.Bernoulli("a", 0.5) + 0.75 * pc.Bernoulli("a", 1.0)
    model = pc.Circuit(both).compile(dtype=torch.float64)
    assert model.posterior(both).tolist() == pytest.approx([0.25, 0.75])
    assert model.given({"a": [0, 1]}).posterior(both)[0].tolist() == [1.0, 0.0]
    assert torch.equal(model.posterior(both), model.posterior(model.circuit.unit(both)))
