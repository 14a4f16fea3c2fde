"""Every query on layered circuits against the oracle."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import pcircuits as pc
from pcircuits.testing import Enumeration


def close(got, want):
    """|got - want| <= 1e-9 · max(1, |want|)."""
    want = torch.tensor(want, dtype=torch.float64)
    assert got.shape == want.shape, f"{tuple(got.shape)}, not {tuple(want.shape)}"
    assert bool(((got - want).abs() <= 1e-9 * want.abs().clamp(min=1.0)).all()), (got - want).abs().max()


def values(table):
    """The numbers of dicts from variables, by row."""
    return [list(row.values()) for row in table]


def test_structure(case):
    verdicts = case.circuit.check()
    assert verdicts.smooth
    assert verdicts.decomposable
    assert verdicts.normalised
    assert verdicts.homogeneous


def test_log_prob_with_missing_values(case):
    want = [[case.oracle.log_value(case.row(r), root) for root in case.roots] for r in case.rows]
    got = case.model.log_prob(case.rows)
    close(got if len(case.roots) > 1 else got.unsqueeze(1), want)
    assert got[0].abs().max().item() < 1e-12  # nothing observed: all mass


def test_marginal(case):
    kept = case.circuit.variables[1:-1]
    marginal = pc.marginalize(case.circuit, [case.circuit.variables[0], case.circuit.variables[-1]])
    assert marginal.variables == kept
    got = marginal.compile(dtype=torch.float64).log_prob(case.full[:, 1:-1])
    rows = [dict(zip(kept, r.tolist(), strict=True)) for r in case.full[:, 1:-1]]
    want = [[case.oracle.log_value(row, root) for root in case.roots] for row in rows]
    close(got if len(case.roots) > 1 else got.unsqueeze(1), want)


def test_conditional(case):
    pairs = [(case.row(x), case.row(e)) for x, e in zip(case.full, case.rows, strict=True)]
    for root in case.roots:
        given = case.of_root(root).given(case.rows)
        close(given.log_prob(case.full), [case.oracle.log_prob(x, e, root) for x, e in pairs])


@pytest.mark.parametrize("root", [0, -1])
def test_conditional_circuit(case, root):
    """A circuit made by conditioning on the first variable, asked about the others."""
    if len(case.roots) > 1:
        case = type(case)(pc.Circuit(case.circuit.root[0, root], case.circuit.variables))
    first, x = case.circuit.variables[0], case.full[0, 0].item()
    rest = pc.condition(case.circuit, {first: x})
    rows = [dict(zip(rest.variables, r.tolist(), strict=True)) for r in case.full[:, 1:]]
    got = rest.compile(dtype=torch.float64).log_prob(case.full[:, 1:])
    close(got, [case.oracle.log_prob(row, {first: x}) for row in rows])


def test_mean_variance_moment_expectation(case):
    evidence, oracle = [case.row(r) for r in case.rows], case.oracle
    for root in case.roots:
        model = case.of_root(root)
        given = model.given(case.rows)
        close(model.mean(), values([oracle.mean(root=root)])[0])
        close(model.variance(), values([oracle.variance(root=root)])[0])
        close(given.mean(), values(oracle.mean(e, root) for e in evidence))
        close(given.variance(), values(oracle.variance(e, root) for e in evidence))
        close(given.moment(3), values(oracle.moment(3, e, root) for e in evidence))
        close(given.expectation(torch.cos), values(oracle.expectation(math.cos, e, root) for e in evidence))


def test_probability_of_a_box(case):
    middle = torch.tensor([case.states(label)[1] for label in case.circuit.variables], dtype=torch.float64)
    lower, upper = middle - 0.5, middle + 1.25
    lower[0], upper[-1] = -math.inf, math.inf
    low, high = case.oracle.row(lower.tolist()), case.oracle.row(upper.tolist())
    inside = middle.where(~case.rows.isnan(), math.nan)
    for root in case.roots:
        model = case.of_root(root)
        close(model.probability(lower, upper), case.oracle.probability(low, high, root=root))
        want = [case.oracle.log_probability(low, high, case.row(r), root) for r in inside]
        close(model.given(inside).log_probability(lower, upper), want)


def test_posterior_of_every_sum(case):
    rows = case.rows[::4]
    for array in case.circuit.sums:
        for root in case.roots:
            model = case.of_root(root)
            got = model.given(rows).posterior(array)
            units = [case.circuit.unit(array, r, k) for r in range(array.regions) for k in range(array.width)]
            want = [[case.oracle.posterior(unit, case.row(r), root) for unit in units] for r in rows]
            close(got.reshape(len(rows), len(units), -1), want)


def test_completions_lie_between_bounds(case):
    regions = case.circuit.check().determinism.regions
    rows = case.rows[-6:]
    for root in case.roots:
        found = case.of_root(root).given(rows).map(exact=False)
        seen = ~rows.isnan()
        assert torch.equal(found.assignment[seen], rows[seen])
        pairs = [(case.row(x), case.row(e)) for x, e in zip(found.assignment, rows, strict=True)]
        close(found.log_prob, [case.oracle.log_prob(x, e, root) for x, e in pairs])
        close(found.upper_bound, [case.oracle.upper_bound(e, regions, root) for _, e in pairs])
        best = torch.tensor([case.oracle.map(e, root).log_prob for _, e in pairs], dtype=torch.float64)
        assert bool((found.log_prob <= best + 1e-9).all()) or not case.finite
        assert bool((found.upper_bound >= best - 1e-9).all())


def pvalue(samples, probabilities):
    """Chi-square of samples (n, D) against a dict from assignments to probabilities, the rare ones pooled."""
    rows = {row: i for i, row in enumerate(probabilities)}
    seen = np.bincount([rows[row] for row in map(tuple, samples.tolist())], minlength=len(rows)).astype(float)
    expected = np.array(list(probabilities.values())) * len(samples)
    rare = expected < 5
    if rare.any():
        seen = np.append(seen[~rare], seen[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), len(expected) - 1)


def test_samples_follow_the_circuit(case):
    for root in case.roots:
        model = case.of_root(root)
        generator = torch.Generator().manual_seed(20 + root)
        samples = model.sample(4000, generator)
        if not case.finite:
            _check_moments(case, samples, root)
            continue
        joint = {row: math.exp(v) for row, v in Enumeration(case.circuit, root).log_values.items()}
        assert pvalue(samples, joint) > 1e-3
        first = case.states(case.circuit.variables[0])[-1]
        given = {row: p for row, p in joint.items() if row[0] == first}
        total = sum(given.values())
        drawn = model.given({case.circuit.variables[0]: first}).sample(4000, generator)[:, 0]
        assert pvalue(drawn, {row: p / total for row, p in given.items()}) > 1e-3


def _check_moments(case, samples, root):
    """Means within 4.5 standard errors; pairwise products are compared through the conditional means of the oracle."""
    mean = torch.tensor(list(case.oracle.mean(root=root).values()), dtype=torch.float64)
    variance = torch.tensor(list(case.oracle.variance(root=root).values()), dtype=torch.float64)
    error = (variance / len(samples)).sqrt()
    assert bool(((samples.mean(0) - mean).abs() < 4.5 * error).all())
    assert bool((samples.var(0) / variance - 1).abs().max() < 0.2)
    some = samples[:: len(samples) // 200]
    first = case.circuit.variables[0]
    means = [list(case.oracle.mean({first: row[0].item()}, root).values()) for row in some]
    residual = some - torch.tensor(means, dtype=torch.float64)
    assert bool((residual.mean(0)[1:].abs() < 4.5 * (residual.var(0)[1:] / len(some)).sqrt()).all())


def test_rows_with_roots_of_their_own(case):
    if len(case.roots) == 1:
        return
    roots = torch.arange(len(case.rows)) % len(case.roots)
    want = [list(case.oracle.mean(case.row(r), int(k)).values()) for r, k in zip(case.rows, roots, strict=True)]
    close(case.model.given(case.rows).root(roots).mean(), want)


def test_files(case, tmp_path):
    pc.save(case.circuit, tmp_path / "layered.pc")
    same = pc.load(tmp_path / "layered.pc").compile(dtype=torch.float64)
    assert torch.equal(same.log_prob(case.rows), case.model.log_prob(case.rows))
