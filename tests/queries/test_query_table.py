"""Every query on every circuit of the table, compiled in every way, against the oracle."""

import itertools
import math

import pytest
import torch

import pcircuits as pc
from pcircuits.testing.oracle import NormalLeaf


def cosine(x):
    return torch.cos(x) if isinstance(x, torch.Tensor) else math.cos(x)


def test_log_prob(cell):
    case = cell.case
    want = case.answer(
        "log_prob", lambda: [[case.oracle.log_value(case.row(r), k) for k in case.roots] for r in case.rows]
    )
    got = cell.model.log_prob(case.rows)
    cell.close(got, want if len(case.roots) > 1 else want[:, 0])
    seen = ~case.rows.isnan()
    assert torch.equal(cell.model.log_prob((case.rows.nan_to_num(nan=0.0), seen)), got)
    for root in case.roots:
        cell.close(cell.of_root(root).log_prob(case.rows), want[:, root])


def test_conditional_log_prob(cell):
    case = cell.case
    asked = torch.where(case.given.isnan(), case.rows[-1], case.given)
    asked[::2, 0] = torch.nan

    def compute():
        pairs = [(case.row(x), case.row(e)) for x, e in zip(asked, case.given, strict=True)]
        return [[case.oracle.log_prob(x, e, root) for root in case.roots] for x, e in pairs]

    want = case.answer("conditional", compute)
    for root in case.roots:
        cell.close(cell.of_root(root).given(case.given).log_prob(asked), want[:, root])
    cell.close(cell.model.given(case.given).log_prob(asked), want if len(case.roots) > 1 else want[:, 0])


def test_probability_of_a_box(cell):
    case = cell.case
    lower = torch.tensor([[v[min(1, len(v) - 1)] if d % 2 else -math.inf for d, v in enumerate(case.values)]])
    upper = torch.tensor([[v[-2] if d != 1 else math.inf for d, v in enumerate(case.values)]])
    lower, upper = lower.double(), upper.double()

    def compute(rows):
        low, high = (
            dict(zip(case.circuit.variables, lower[0].tolist(), strict=True)),
            dict(zip(case.circuit.variables, upper[0].tolist(), strict=True)),
        )
        return [[case.oracle.log_probability(low, high, case.row(e), root) for root in case.roots] for e in rows]

    free = case.answer("box", lambda: compute([torch.full_like(lower[0], math.nan)]))
    want = case.answer("box given", lambda: compute(case.given))
    for root in case.roots:
        cell.close(cell.of_root(root).log_probability(lower[0], upper[0]), free[0, root])
        cell.close(cell.of_root(root).probability(lower[0], upper[0]), free[0, root].exp())
        given = cell.of_root(root).given(case.given)
        cell.close(given.log_probability(lower, upper), want[:, root])
        named = dict(zip(case.circuit.variables, upper[0].tolist(), strict=True))
        cell.close(given.log_probability(lower.expand(len(case.given), -1), named), want[:, root])


@pytest.mark.parametrize("given", [False, True])
def test_statistics(cell, given):
    case, oracle = cell.case, cell.case.oracle
    for root in case.roots:
        model = cell.of_root(root)
        model = model.given(case.given) if given else model
        cell.close(model.mean(), case.by_variable("mean", oracle.mean, given, root))
        cell.close(model.variance(), case.by_variable("variance", oracle.variance, given, root))
        third = case.by_variable("third", lambda e, root: oracle.moment(3, e, root), given, root)
        cell.close(model.moment(3), third)
        waves = case.by_variable("cosine", lambda e, root: oracle.expectation(cosine, e, root), given, root)
        cell.close(model.expectation(cosine), waves)


def test_covariance(cell):
    """The first row of what is given knows nothing: then the answer is that of the model itself."""
    case, labels = cell.case, cell.case.circuit.variables

    def compute(root):
        return [[[case.oracle.covariance(a, b, case.row(r), root) for a in labels] for b in labels] for r in case.given]

    for root in case.roots:
        want = case.answer(("covariance", root), lambda k=root: compute(k))
        cell.close(cell.of_root(root).given(case.given).covariance(), want)
        cell.close(cell.of_root(root).covariance(), want[0])


def test_tables_of_states(cell):
    case, oracle = cell.case, cell.case.oracle
    discrete = {
        label: int(max(values)) + 1
        for label, values in zip(case.circuit.variables, case.values, strict=True)
        if all(leaf.states is not None for leaf in oracle.leaves_of[label])
    }

    def probability(row, asked, root):
        if any(row.get(label, value) != value for label, value in asked.items()):
            return 0.0
        return math.exp(oracle.log_prob(asked, row, root))

    for root in case.roots:
        model = cell.of_root(root).given(case.given)
        free = cell.of_root(root).state_probabilities()
        tables, modes = model.state_probabilities(), model.marginal_modes()
        assert list(tables) == list(free) == list(modes) == list(discrete)
        for label, states in discrete.items():
            want = case.answer(
                ("states", root, label),
                lambda k=root, v=label, n=states: [
                    [probability(case.row(r), {v: s}, k) for s in range(n)] for r in case.given
                ],
            )
            cell.close(tables[label], want)
            cell.close(free[label], want[0])
            best = want.gather(1, modes[label].long().unsqueeze(1)).squeeze(1)
            assert bool((best >= want.amax(1) - cell.tolerance).all())
        if len(discrete) > 1:
            (a, n), *_, (b, m) = discrete.items()
            want = case.answer(
                ("pair", root),
                lambda k=root, a=a, b=b, n=n, m=m: [
                    [[probability(case.row(r), {a: s, b: t}, k) for t in range(m)] for s in range(n)]
                    for r in case.given
                ],
            )
            cell.close(model.pairwise_probabilities(a, b), want)
            cell.close(cell.of_root(root).pairwise_probabilities(b, a), want[0].mT)


def test_quantiles(cell):
    """The mass up to a quantile reaches the level, and that below it does not."""
    case = cell.case
    levels = (0.05, 0.5, 0.9)
    for root in case.roots:
        model = cell.of_root(root)
        free, found = model.quantile(levels), model.given(case.given[:3]).quantile(levels)
        assert found.dtype == cell.dtype
        assert found.shape == (3, len(case.given[:3]), len(case.values))
        assert torch.equal(found[:, 0], free)
        for row, quantiles in zip(case.given, found.unbind(1), strict=False):
            known = case.row(row)
            for level, (label, x) in itertools.product(range(3), enumerate(case.circuit.variables)):
                _is_the_quantile(cell, known, x, quantiles[level, label].item(), levels[level], root)


def _is_the_quantile(cell, known, label, x, level, root):
    if label in known:
        assert x == known[label]
        return
    oracle = cell.case.oracle
    step = 1e-6 * max(1.0, abs(x)) if isinstance(oracle.leaves_of[label][0], NormalLeaf) else 1
    assert oracle.probability({}, {label: x}, known, root) >= level - 10 * cell.tolerance
    assert oracle.probability({}, {label: x - step}, known, root) <= level + 10 * cell.tolerance


@pytest.mark.parametrize("given", [False, True])
def test_posterior(cell, given):
    case = cell.case
    rows = case.given if given else torch.full((1, case.rows.shape[1]), math.nan, dtype=torch.float64)

    def compute(array, root):
        units = [[case.circuit.unit(array, r, k) for k in range(array.width)] for r in range(array.regions)]
        return [[[case.oracle.posterior(unit, case.row(r), root) for unit in region] for region in units] for r in rows]

    for number, array in enumerate(case.circuit.sums[-6:]):
        for root in case.roots:
            want = case.answer(("posterior", given, number, root), lambda a=array, k=root: compute(a, k))
            want = want[:, 0, 0] if array.shape == (1, 1) else want
            model = cell.of_root(root)
            got = model.given(rows).posterior(array) if given else model.posterior(array)[None]
            cell.close(got, want)
            unit = case.circuit.unit(array, array.regions - 1, array.width - 1)
            alone = model.given(rows).posterior(unit)
            cell.close(alone, want if array.shape == (1, 1) else want[:, -1, -1])


def test_samples_are_possible_and_keep_the_evidence(cell):
    case = cell.case
    for root in case.roots:
        model = cell.of_root(root)
        free = model.sample(4, generator=torch.Generator().manual_seed(0))
        assert free.shape == (4, len(case.circuit.variables))
        assert free.dtype == cell.dtype
        assert bool((model.log_prob(free) > -math.inf).all())
        drawn = model.given(case.given).sample(3, generator=torch.Generator().manual_seed(1))
        assert drawn.shape == (3, *case.given.shape)
        assert not drawn.isnan().any()
        seen = ~case.given.isnan()
        assert torch.equal(drawn.double()[:, seen], case.given[seen].expand(3, -1))
        assert bool((model.log_prob(drawn.flatten(0, 1)) > -math.inf).all())
        again = model.given(case.given).sample(3, generator=torch.Generator().manual_seed(1))
        assert torch.equal(drawn, again)


def test_most_probable_completion(cell):
    case = cell.case
    deterministic = case.circuit.check().deterministic.holds
    for root in case.roots:
        best = case.answer(("map", root), lambda k=root: [case.oracle.map(case.row(e), k).log_prob for e in case.given])
        bound = case.answer(
            ("bound", root),
            lambda k=root: [
                case.oracle.upper_bound(case.row(e), case.circuit.check().determinism.regions, k) for e in case.given
            ],
        )
        model = cell.of_root(root).given(case.given)
        found = model.map(exact=False)
        seen = ~case.given.isnan()
        assert torch.equal(found.assignment.double()[seen], case.given[seen])
        value = torch.tensor(
            [
                case.oracle.log_prob(case.row(x), case.row(e), root)
                for x, e in zip(found.assignment, case.given, strict=True)
            ],
            dtype=torch.float64,
        )
        cell.close(found.log_prob, value)
        cell.close(found.upper_bound, bound)
        slack = 2 * cell.tolerance * best.abs().clamp(min=1.0)
        assert bool((found.upper_bound.double() >= best - slack).all())
        assert bool((found.upper_bound >= found.log_prob).all())
        assert bool(((value >= best - slack) | ~found.exact).all())
        if cell.dtype == torch.float64:
            assert bool((found.exact | (bound > value + 1e-13)).all())
        if deterministic:
            proved = model.map()
            cell.close(proved.log_prob, best)
            assert bool(proved.exact.all())
            assert torch.equal(proved.assignment, found.assignment)
        else:
            with pytest.raises(pc.PropertyError, match=r"map needs a deterministic circuit.*exact=False"):
                model.map()
