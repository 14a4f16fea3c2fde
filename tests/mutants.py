"""Breaks the engine on purpose, one small change at a time, and shows for each a part of the suite that notices.

    python tests/mutants.py [--list] [--only NAME ...] [--limit SECONDS]

Each mutant replaces one piece of text in a copy of the packages, where it must be found exactly once (else this script
stops: a mutant that no longer fits its file shows nothing), and runs a few named tests on that copy. They must pass on
an unchanged copy, and fail on the mutant within the limit. A mutant whose tests pass has survived: a test is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTANTS", "Mutant", "Outcome", "judge", "mutated", "passing", "run"]

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 30.0
"""Seconds in which the tests must fail."""

GUARD = """
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).resolve().parent)


def pytest_collection_finish(session):
    for name in ("pcircuits", "vq_sources"):
        module = sys.modules.get(name)
        if module is not None and not str(Path(module.__file__).resolve()).startswith(HERE):
            pytest.exit(f"{name} was imported from {module.__file__}, not from the copy", returncode=99)
    if "pcircuits" not in sys.modules:
        pytest.exit("the tests do not import pcircuits", returncode=99)
"""
"""A pytest plugin that stops where the packages under test are not those of the copy."""


class DoesNotFit(Exception):
    """A mutant whose text is not in its file exactly once."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file: `old` becomes `new`, and `killed_by` (pytest node ids) must fail."""

    name: str
    breaks: str
    file: str
    old: str
    new: str
    killed_by: tuple[str, ...]

    def apply(self, root: Path) -> str:
        """The changed text of its file under `root`. **Raises** `DoesNotFit` unless `old` is there exactly once."""
        text = (root / self.file).read_text()
        if (found := text.count(self.old)) != 1:
            raise DoesNotFit(f"{self.name}: {self.old!r} is {found} times in {self.file}; it must be there once")
        return text.replace(self.old, self.new)


FETCH = "pcircuits/program/fetch.py"
NUMBERS = "pcircuits/program/numbers.py"
VALUES = "pcircuits/program/values.py"
SUMS = "pcircuits/program/steps/sums.py"
FUSED = "pcircuits/program/steps/fused.py"
PRODUCTS = "pcircuits/program/steps/products.py"
INPUTS = "pcircuits/program/steps/inputs.py"
LEAVES = "pcircuits/program/steps/leaf_products.py"
TABLE = "tests/queries/test_query_table.py"
KILLERS = "tests/program/test_killed_by_mutants.py"
SCALED = "tests/program/test_scaled_values.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "lost-weight", "a dense sum drops its first input", SUMS,
        "Values(torch.matmul(read.numbers, weights.transpose(-1, -2)), read",
        "Values(torch.matmul(read.numbers[..., 1:], weights[..., 1:].transpose(-1, -2)), read",
        (f"{TABLE}::test_log_prob[layered-all rewrites]",),
    ),
    Mutant(
        "ignored-weights", "an elementwise sum forgets its weights", SUMS,
        "return values + self.weights.logs(state.held).transpose(1, 2).unsqueeze(2)",
        "return values",
        (f"{TABLE}::test_log_prob[mixes-all rewrites]",),
    ),
    Mutant(
        "ignored-scaled-weights", "an elementwise sum of scaled values forgets its weights", SUMS,
        "return numbers * (shift * spread), top + largest",
        "return numbers * shift, top + largest",
        (f"{SCALED}::test_log_prob[mixed-0-torch.float64]",),
    ),
    Mutant(
        "unaligned-exponents", "an elementwise sum takes scaled values of several exponents for those of one", SUMS,
        "return numbers * (shift * spread), top + largest",
        "return numbers * spread, top + largest",
        (f"{SCALED}::test_log_prob[mixed-0-torch.float64]",),
    ),
    Mutant(
        "lost-level", "scaled values are divided by their total, which their exponent forgets",
        "pcircuits/program/values.py",
        "return Values(self.numbers * by.reciprocal(), self.exponent + raised)",
        "return Values(self.numbers * by.reciprocal(), self.exponent + 0 * by)",
        (f"{SCALED}::test_log_prob[chain-0-torch.float64]",),
    ),
    Mutant(
        "greedy-scaling", "what a factor of a product needs forgets the bounds of the other factors", PRODUCTS,
        "others = sum(spans.bounds[other] for other in (*steps[:place], *steps[place + 1 :]))",
        "others = 0.0",
        (f"{SCALED}::test_a_small_value_that_a_product_makes_count[torch.float32]",),
    ),
    Mutant(
        "undivided-scaled-flow", "flows of a scaled dense sum are not divided by its value", SUMS,
        "torch.where(alive, flow / torch.where(alive, numbers, 1.0), 0.0)",
        "torch.where(alive, flow, 0.0)",
        (f"{SCALED}::test_flows[chain-0-torch.float64]",),
    ),
    Mutant(
        "unfilled-table", "a look-up takes a missing value for the state 0", INPUTS,
        "found = found.filled(~observed, 1.0)",
        "found = found.rows(slice(None))",
        (f"{SCALED}::test_log_prob[chain-0-torch.float64]",),
    ),
    Mutant(
        "neighbours-parameters", "parameters of one size are those of the next that were stored",
        "pcircuits/program/pools.py",
        "return pieces[first] if last == first + 1 else torch.cat(pieces[first:last])",
        "return pieces[first - 1] if len(pieces[first - 1]) == end - start else torch.cat(pieces[first:last])",
        (f"{SCALED}::test_log_prob[chain-0-torch.float64]",),
    ),
    Mutant(
        "shifted-columns", "sums over one product are merged, and each reads the columns of the next",
        "pcircuits/program/rewrites/fuse.py",
        "shift[own] = op.first + place // sums, place % sums * op.width",
        "shift[own] = op.first + place // sums, (place + 1) % sums * op.width",
        (f"{KILLERS}::test_sums_over_one_product_keep_their_outputs",),
    ),
    Mutant(
        "lost-zero-of-a-simplex", "a zero on the simplex becomes a tiny number", "pcircuits/parameters.py",
        "return torch.where(zero, -torch.inf, torch.log_softmax(kept, -1))",
        "return torch.log_softmax(kept, -1)",
        (f"{KILLERS}::test_a_zero_of_a_simplex_is_exact",),
    ),
    Mutant(
        "lost-zero-weight", "a weight of zero becomes a weight of one", "pcircuits/parameters.py",
        "return torch.where(zero, -torch.inf, torch.where(zero, 0.0, raw))",
        "return torch.where(zero, 0.0, raw)",
        (f"{TABLE}::test_log_prob[zero_weights-all rewrites]",),
    ),
    Mutant(
        "untied", "each use of a tied parameter gets a slot of its own", "pcircuits/program/lower.py",
        "return ParameterRows((parameter,) * count, rows, block)",
        'return ParameterRows((__import__("copy").copy(parameter),) * count, rows, block)',
        (f"{KILLERS}::test_tied_parameters_are_stored_once",),
    ),
    Mutant(
        "stale-parameters", "what is derived from parameters is kept after they change", "pcircuits/program/program.py",
        "if self._kept is None or self._kept[0] != version:",
        "if self._kept is None:",
        (f"{KILLERS}::test_answers_follow_the_parameters",),
    ),
    Mutant(
        "forgotten-shift", "a log-sum-exp does not add back the maximum it subtracted", NUMBERS,
        "return log((values - shift).exp().sum(dim)) + shift.squeeze(dim)",
        "return log((values - shift).exp().sum(dim))",
        (f"{TABLE}::test_log_prob[mixes-all rewrites]",),
    ),
    Mutant(
        "shifted-exponent", "a dense sum takes the exponent of another row", SUMS,
        "weights.transpose(-1, -2)), read.exponent + largest)",
        "weights.transpose(-1, -2)), read.exponent.roll(1, 1) + largest)",
        (f"{TABLE}::test_log_prob[layered-all rewrites]",),
    ),
    Mutant(
        "no-shift", "values are scaled without subtracting a maximum", VALUES,
        "shift = torch.where(torch.isfinite(peak), peak, 0.0)",
        "shift = torch.zeros_like(peak)",
        (f"{KILLERS}::test_values_far_below_the_smallest_number",),
    ),
    Mutant(
        "gradient-of-zero", "the log of a sum that is zero has a gradient", NUMBERS,
        "return torch.where(positive, torch.where(positive, values, 1.0).log(), -torch.inf)",
        "return values.log()",
        (f"{KILLERS}::test_impossible_rows_leave_the_gradients_of_the_others_intact",),
    ),
    Mutant(
        "swapped-regions", "a fetch that gathers from several steps reverses its rows", FETCH,
        "joined = joined.rows(self.permutation)",
        "joined = joined.rows(self.permutation.flip(0))",
        (f"{TABLE}::test_log_prob[mixed_families-all rewrites]",),
    ),
    Mutant(
        "inverse-permutation", "a fetch applies the inverse of its permutation", FETCH,
        'np.argsort(joined, kind="stable")',
        "joined",
        (f"{TABLE}::test_log_prob[mixed_families-all rewrites]",),
    ),
    Mutant(
        "layout-without-parameters", "layout reorders rows but not their parameters",
        "pcircuits/program/operations.py",
        "return ParameterRows(tuple(self.owners[i] for i in order.tolist()), self.rows[order], self.block)",
        "return ParameterRows(self.owners[: len(order)], self.rows[: len(order)], self.block)",
        (f"{TABLE}::test_log_prob[layered_normals-all rewrites]",),
    ),
    Mutant(
        "swapped-factors", "an outer product lets its first factor run fastest",
        PRODUCTS,
        "one, other = numbers.unsqueeze(-1), factor.numbers.unsqueeze(-2)",
        "one, other = numbers.unsqueeze(-2), factor.numbers.unsqueeze(-1)",
        (f"{TABLE}::test_log_prob[layered-all rewrites]",),
    ),
    Mutant(
        "missing-is-zero", "leaves take a missing value for an observed 0", "pcircuits/program/reports.py",
        "return family.log_prob(evidence[0], evidence[1], parameters)",
        "return family.log_prob(evidence[0], evidence[1] | True, parameters)",
        (f"{TABLE}::test_log_prob[rain-all rewrites]",),
    ),
    Mutant(
        "unmasked-statistics", "the matrix form forgets the mask of its statistics", LEAVES,
        "statistics = [torch.where(observed, statistic, 0.0) for statistic in statistics]",
        "statistics = list(statistics)",
        (f"{TABLE}::test_log_prob[normal_mixture-all rewrites]",),
    ),
    Mutant(
        "unmasked-normaliser", "the matrix form adds the normalisers of missing variables", LEAVES,
        "total = torch.matmul(self._rows_of(observed.to(form.centre.dtype)), form.constant)",
        "total = torch.matmul(self._rows_of(torch.ones_like(observed).to(form.centre.dtype)), form.constant)",
        (f"{TABLE}::test_log_prob[normal_mixture-all rewrites]",),
    ),
    Mutant(
        "lost-base-row", "the table look-up does not add the most frequent rows", LEAVES,
        "total = differ.view(batch, self.count, -1).transpose(0, 1) + added",
        "total = differ.view(batch, self.count, -1).transpose(0, 1)",
        (f"{KILLERS}::test_look_ups_by_difference_from_the_most_frequent_row",),
    ),
    Mutant(
        "kept-base-row", "the table look-up adds whole rows where it should add differences", LEAVES,
        "_summed(table - base.index_select(0, pairs.leaf), pairs.differing, pairs.counts)",
        "_summed(table, pairs.differing, pairs.counts)",
        (f"{KILLERS}::test_look_ups_by_difference_from_the_most_frequent_row",),
    ),
    Mutant(
        "trusted-differences", "the table look-up adds differences that lose the answer's digits", LEAVES,
        "if bool((lost <= LOST[table.dtype] * total.detach().abs().clamp(min=1.0)).all()):",
        "if lost.numel() >= 0:",
        ("tests/program/test_look_ups.py::test_a_row_likely_where_the_most_frequent_values_are_not_keeps_its_digits",),
    ),
    Mutant(
        "last-range", "a streamed mixture keeps the last range of its components alone", FUSED,
        "parts = [self._sum(state, parts)]",
        "parts = parts[-1:]",
        ("tests/program/test_look_ups.py::test_each_pair_is_evaluated_once_whatever_the_memory",),
    ),
    Mutant(
        "overflowing-data", "data that overflow a matrix product stay in it", LEAVES,
        "if not all(bool(torch.isfinite(statistic).all()) for statistic in statistics):",
        "if not statistics:",
        ("tests/queries/test_found_in_review.py::test_a_row_far_out_leaves_the_gradients_of_the_others_as_they_are",),
    ),
    Mutant(
        "lost-columns", "a streamed mixture forgets the last of its components", INPUTS,
        "for begin in range(0, self.width, step)]",
        "for begin in range(0, max(1, self.width - 1), step)]",
        (f"{TABLE}::test_log_prob[normal_mixture-chunks of one]",),
    ),
    Mutant(
        "shifted-bins", "the bins of a discretised density are off by one",
        "pcircuits/families/discretized.py",
        "count = last - first + 1",
        "first, last, count = first + 1, last + 1, last - first + 1",
        ("tests/families/test_discretized.py::test_masses_are_scipys",),
    ),
    Mutant(
        "open-edge-bin", "the last bin of a discretised density does not take its tail",
        "pcircuits/families/discretized.py",
        "below, above = first == 0, last == self.levels - 1",
        "below, above = first == 0, last == self.levels",
        ("tests/families/test_discretized.py::test_edge_bins_take_the_tails",),
    ),
    Mutant(
        "swapped-box", "a box has its edges swapped", "pcircuits/program/reports.py",
        "return family.log_mass(lower, upper, x, observed, parameters)",
        "return family.log_mass(upper, lower, x, observed, parameters)",
        (f"{TABLE}::test_probability_of_a_box[scalar_graph-all rewrites]",),
    ),
    Mutant(
        "joint-for-conditional", "a conditional is not divided by the evidence", "pcircuits/queries/likelihood.py",
        "return joint - torch.where(known == -torch.inf, 0.0, known)",
        "return joint",
        (f"{TABLE}::test_conditional_log_prob[rain-all rewrites]",),
    ),
    Mutant(
        "undivided-flow", "flows are not divided by the sum's value", SUMS,
        "shares * (flow / torch.where(total > 0, total, 1.0))",
        "shares * flow",
        (f"{TABLE}::test_statistics[scalar_graph-all rewrites-True]",),
    ),
    Mutant(
        "overwritten-flow", "a unit with several parents keeps the flow of the last one", FETCH,
        "total.index_add_(0, rows, part)",
        "total.index_copy_(0, rows, part)",
        (f"{KILLERS}::test_flows_of_several_parents_add_up",),
    ),
    Mutant(
        "overwritten-flow-of-a-unit", "a unit that one sum reads twice keeps the flow of one reading", FETCH,
        "part, accumulate=True)",
        "part, accumulate=False)",
        (f"{KILLERS}::test_flows_of_a_unit_that_is_wired_twice_add_up",),
    ),
    Mutant(
        "variance-within", "the variance forgets how far the components' means lie apart",
        "pcircuits/queries/moments.py",
        "second = torch.matmul(wide, (variances + distance**2).transpose(1, 2))",
        "second = torch.matmul(wide, variances.transpose(1, 2))",
        (f"{TABLE}::test_statistics[scalar_graph-all rewrites-True]",),
    ),
    Mutant(
        "prior-samples-of-dense-sums", "a dense sum draws from its prior, not its posterior", SUMS,
        "choice.chooser.pick_linear(below * weights[visits.row, visits.column])",
        "choice.chooser.pick_linear(weights[visits.row, visits.column])",
        (f"{KILLERS}::test_samples_follow_the_conditional[dense-rewritten]",),
    ),
    Mutant(
        "prior-samples-of-mixes", "an elementwise sum draws from its prior, not its posterior", SUMS,
        "picked = choice.chooser.pick(below + logs[",
        "picked = choice.chooser.pick(0 * below + logs[",
        (f"{KILLERS}::test_samples_follow_the_conditional[scalar-rewritten]",),
    ),
    Mutant(
        "prior-samples-of-mixtures", "a fused mixture draws from its prior, not its posterior", FUSED,
        "v[r[g], p[g]] + logs[r[g], o[g], begin:end]",
        "logs[r[g], o[g], begin:end]",
        (f"{KILLERS}::test_samples_follow_the_conditional[mixture-rewritten]",),
    ),
    Mutant(
        "even-samples", "a draw ignores how probable its choices are", "pcircuits/queries/sampling.py",
        "cumulative = scores.cumsum(-1, dtype=torch.float64)",
        "cumulative = scores.sign().cumsum(-1, dtype=torch.float64)",
        (f"{KILLERS}::test_samples_follow_the_conditional[dense-rewritten]",),
    ),
    Mutant(
        "least-probable", "map takes the smallest input of a sum", "pcircuits/queries/maximum.py",
        "largest = scores.argmax(-1)",
        "largest = scores.argmin(-1)",
        (f"{TABLE}::test_most_probable_completion[gated-all rewrites]",),
    ),
    Mutant(
        "low-bound", "the upper bound of map takes maxima at sums that are not deterministic",
        "pcircuits/queries/maximum.py",
        "Mode(some.x, some.observed), engine.deterministic_sums)",
        "Mode(some.x, some.observed), everywhere)",
        (f"{TABLE}::test_most_probable_completion[scalar_graph-all rewrites]",),
    ),
    Mutant(
        "uniform-classes", "the class marginal forgets log p(c)", "vq_sources/priors/class_marginal.py",
        "return torch.stack(conditionals, 1) + self.class_probs.log()",
        "return torch.stack(conditionals, 1)",
        ("tests/vq_priors/test_prior_laws.py::test_marginal_is_the_sum_over_classes",),
    ),
    Mutant(
        "uniform-start", "the running class posterior forgets log p(c) where it starts",
        "vq_sources/priors/class_marginal.py",
        "log_joint = self.class_probs.log().expand(batch, -1)",
        "log_joint = torch.zeros_like(self.class_probs).expand(batch, -1)",
        ("tests/vq_priors/test_prior_suite.py::test_the_marginal_starts_from_unequal_classes",),
    ),
    Mutant(
        "stuck-classes", "the class posterior is not updated by the symbols seen",
        "vq_sources/priors/class_marginal.py",
        "return self._state(conditionals, state.log_joint + state.upcoming[state.rows, :, symbols])",
        "return self._state(conditionals, state.log_joint)",
        ("tests/vq_priors/test_prior_laws.py::test_next_symbols_sum_to_one_and_chain_to_log_prob",),
    ),
    Mutant(
        "free-gumbels", "the children of a stochastic beam are not conditioned on their maximum",
        "vq_sources/selection/stochastic_beam_search.py",
        "return target - F.relu(v) - torch.log1p(torch.exp(-v.abs()))",
        "return free",
        (
            "tests/vq_selection/test_samplers_law.py::"
            "test_children_keep_the_maximum_and_have_the_law_of_conditioned_gumbels",
        ),
    ),
    Mutant(
        "renormalised-bound", "the weights of a bound are renormalised", "vq_sources/distil.py",
        "return pc.Parameter.from_log(log, pc.nonnegative",
        "return pc.Parameter.from_log(torch.log_softmax(log, -1), pc.nonnegative",
        (
            "tests/vq_distil/test_distil.py::"
            "test_the_bound_rises_over_nested_sets_and_never_passes_the_teacher[family0]",
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A run of pytest: how it ended (None: at the limit), its seconds, and the first test that failed."""

    code: int | None
    seconds: float
    failed: str
    output: str


@contextmanager
def mutated(mutant: Mutant | None) -> Iterator[Path]:
    """A folder with the packages, the tests and pytest's settings, in which one text is changed."""
    ignored = shutil.ignore_patterns(".hypothesis")  # bytecode comes along: Python compares it with its file's time
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        for part in ("pcircuits", "vq_sources", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "mutant_guard.py").write_text(GUARD)
        if mutant is not None:
            (folder / mutant.file).write_text(mutant.apply(folder))
        yield folder


def run(folder: Path, tests: Sequence[str], limit: float) -> Outcome:
    """Run some tests on the packages in a folder, up to the first failure or the limit."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "--tb=short", "-p", "no:cacheprovider"]
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, "-p", "mutant_guard"], cwd=folder, env=environment, timeout=limit,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return Outcome(None, time.perf_counter() - begin, "", str(late.output))
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    failed = lines[0].removeprefix("FAILED ").split(" - ")[0] if lines else ""
    return Outcome(done.returncode, time.perf_counter() - begin, failed, done.stdout)


def passing(mutants: Sequence[Mutant], limit: float = LIMIT) -> Outcome:
    """The tests of some mutants on an unchanged copy. **Raises** `RuntimeError` where they do not pass."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.killed_by))
    with mutated(None) as folder:
        outcome = run(folder, tests, limit * (1 + len(mutants)))
    if outcome.code != 0:
        raise RuntimeError(f"the tests do not pass on the unchanged packages\n{outcome.output}")
    return outcome


def judge(mutant: Mutant, limit: float = LIMIT) -> tuple[bool, Outcome]:
    """Whether a mutant's tests fail on it within the limit, and how they ended.

    **Raises** `DoesNotFit`; `RuntimeError` where the tests could not be run: a mutant must compute, wrongly.
    """
    with mutated(mutant) as folder:
        outcome = run(folder, mutant.killed_by, limit)
    if outcome.code not in (None, 0, 1):
        raise RuntimeError(f"{mutant.name}: its tests could not be run on the mutant\n{outcome.output}")
    return outcome.code == 1, outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--list", action="store_true", help="name the mutants and what they break")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[m.name for m in MUTANTS], help="only these")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds in which tests must fail (%(default)s)")
    chosen = parser.parse_args(arguments)
    mutants = [m for m in MUTANTS if not chosen.only or m.name in chosen.only]
    if chosen.list:
        for mutant in mutants:
            print(f"{mutant.name:28} {mutant.breaks} ({mutant.file})")
        return 0
    try:
        return _report(mutants, chosen.limit)
    except (DoesNotFit, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2


def _report(mutants: Sequence[Mutant], limit: float) -> int:
    for mutant in mutants:
        mutant.apply(ROOT)
    print(f"the tests pass on the unchanged packages, {passing(mutants, limit).seconds:.1f} s in all", flush=True)
    survivors = []
    print(f"{'mutant':28} {'fails in':>9}  what it breaks, and what notices", flush=True)
    for mutant in mutants:
        killed, outcome = judge(mutant, limit)
        notices = outcome.failed if killed else "SURVIVED" + (" (at the limit)" if outcome.code is None else "")
        print(f"{mutant.name:28} {outcome.seconds:7.1f} s  {mutant.breaks}\n{'':40}{notices}", flush=True)
        if not killed:
            survivors.append(mutant.name)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants were noticed", *survivors)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
