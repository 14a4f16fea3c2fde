"""Breaks the packages on purpose, one small change at a time, and shows for each a part of the suite that notices.

    python tests/mutants.py [--list] [--only NAME ...] [--limit SECONDS]

Each mutant replaces functions, methods or constants of the packages by name, in a process of its own, and runs a few named
tests there. They must pass without it, and fail with it within the limit. A mutant whose tests pass has survived: a test
is missing. One that replaces something which is no longer there stops with an `AttributeError`: it shows nothing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vq_sources.priors.class_marginal
import vq_sources.selection.stochastic_beam_search
from pcircuits.families.discretized import AbstractDiscretized
from pcircuits.parameters import Parameter, simplex
from pcircuits.program import edges, leaf_functions, numbers, passes, plan, program, state, stores
from pcircuits.program.layers import inputs, layer, leaves, mixture, pairs, products, sums
from pcircuits.program.rows import Rows
from pcircuits.queries import conditional, maximum, moments, posteriors, sampling

__all__ = ["MUTANTS", "Mutant", "Outcome", "Patches", "applied", "judge", "passing", "run"]

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 30.0
"""Seconds in which the tests must fail."""

CHILD = """
import importlib.util
import sys
from pathlib import Path

import pytest


class Applied:
    def pytest_collection_finish(self, session):
        where = sys.argv[1]
        spec = importlib.util.spec_from_file_location("mutants", where)
        mutants = sys.modules["mutants"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(mutants)
        found = Path(sys.modules["pcircuits"].__file__).resolve()
        if mutants.ROOT not in found.parents:
            pytest.exit(f"pcircuits was imported from {found}, not from {mutants.ROOT}", returncode=99)
        for mutant in mutants.MUTANTS:
            if mutant.name == sys.argv[2]:
                mutant.apply(mutants.Patches())


sys.exit(pytest.main(sys.argv[3:], plugins=[Applied()]))
"""
"""What runs tests with a mutant, which comes when all tests are collected, and all that they break has been imported."""


class Patches:
    """Replacements that can be undone."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def __call__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace an attribute of a class or a module by what `make` makes of it; of a module, also where it was imported to.

        **Raises** `AttributeError` where the owner itself has no such attribute.
        """
        if name not in vars(owner):
            raise AttributeError(f"{owner.__name__} has no {name} of its own")
        kept = vars(owner)[name]
        made = make(kept.__func__ if isinstance(kept, staticmethod) else kept)
        made = staticmethod(made) if isinstance(kept, staticmethod) else made
        holders = [owner] if isinstance(owner, type) else [m for m in _loaded() if vars(m).get(name) is kept]
        for holder in holders:
            setattr(holder, name, made)
            self._undo.append(functools.partial(setattr, holder, name, kept))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._undo)

    def undo(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()


def _loaded() -> list[types.ModuleType]:
    return [module for module in list(sys.modules.values()) if isinstance(module, types.ModuleType)]


@dataclass(frozen=True)
class Mutant:
    """One change: `apply` patches the packages, and `killed_by` (pytest node ids) must fail."""

    name: str
    breaks: str
    killed_by: tuple[str, ...]
    apply: Callable[[Patches], None]


MUTANTS: list[Mutant] = []


def mutant(breaks: str, *killed_by: str) -> Callable[[Callable[[Patches], None]], Callable[[Patches], None]]:
    """Make a mutant of a function that patches; its name is the function's."""

    def made(apply: Callable[[Patches], None]) -> Callable[[Patches], None]:
        MUTANTS.append(Mutant(apply.__name__.replace("_", "-"), breaks, killed_by, apply))
        return apply

    return made


def after(change: Callable[..., Any]) -> Callable[[Any], Any]:
    """The original, whose result `change(result, *arguments)` changes; None leaves it."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def changed(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            instead = change(result, *arguments, **options)
            return result if instead is None else instead

        return changed

    return make


def instead(other: Any) -> Callable[[Any], Any]:
    """Something else in the place of the original."""
    return lambda original: other


TABLE = "tests/queries/test_query_table.py"
KILLERS = "tests/program/test_killed_by_mutants.py"
SCALED = "tests/program/test_scaled_values.py"
GRADIENTS = "tests/program/test_flows_and_gradients.py"
REWRITES = "tests/program/test_rewrites.py"
CHANGES = "tests/program/test_changes.py"
FAR_OUT = "tests/queries/test_far_out.py"


# Values on the way up


@mutant("a dense sum drops its first input", f"{TABLE}::test_log_prob[layered-all rewrites]")
def lost_weight(patch: Patches) -> None:
    def drop(found: Any, self: Any, prepared: Any) -> Any:
        weights = found["weights"].clone()
        weights[..., 0] = -torch.inf if prepared.logs else 0.0
        return {**found, "weights": weights}

    patch(sums.SumLayer, "parameters_in", after(drop))


@mutant("an elementwise sum forgets its weights", f"{TABLE}::test_log_prob[mixes-all rewrites]")
def ignored_weights(patch: Patches) -> None:
    patch(sums.MixLayer, "_weights", after(lambda w, self, state: w * 0 + (0.0 if state.logs else 1.0)))


@mutant(
    "weights forget the power of two that they were divided by", f"{TABLE}::test_log_prob[scalar_graph-all rewrites]"
)
def forgotten_shift_of_weights(patch: Patches) -> None:
    def level(found: Any, self: Any, prepared: Any) -> Any:
        return {**found, "shift": torch.ones_like(found["shift"])} if "shift" in found else found

    patch(sums.Weights, "parameters_in", after(level))


@mutant("an elementwise sum takes units of several exponents for those of one", f"{SCALED}::test_log_prob[mixed-0-torch.float64]")  # fmt: skip  # noqa: E501
def unaligned_exponents(patch: Patches) -> None:
    def aligned(read: Any, self: Any, state: Any) -> Any:
        values, exponent, slack = read
        return values, exponent.amax(0, keepdim=True).expand_as(exponent), slack

    patch(sums.MixLayer, "_read", after(aligned))


@mutant("numbers are rescaled, and their exponent forgets it", f"{SCALED}::test_log_prob[chain-0-torch.float64]")
def forgotten_rescale(patch: Patches) -> None:
    patch(numbers, "rescale", lambda old: lambda n, exponent, slack: old(n, exponent.clone(), slack))


@mutant(
    "an exponent read from the bits of a number is one too small", f"{SCALED}::test_log_prob[chain-0-torch.float64]"
)
def exponent_off_by_one(patch: Patches) -> None:
    def lower(_: Any, n: Any, exponent: Any, slack: Any) -> None:
        exponent.sub_(1)

    patch(numbers, "rescale", after(lower))


@mutant("a dense sum takes the exponent of another row", f"{TABLE}::test_log_prob[layered-all rewrites]")
def shifted_exponent(patch: Patches) -> None:
    def roll(_: Any, self: Any, state: Any) -> None:
        own = slice(self.first, self.first + self.count)
        state.exponent[own] = state.exponent[own].roll(1, 1)

    patch(sums.SumLayer, "up", after(roll))


@mutant(
    "bounds on the errors of numbers are always zero", f"{SCALED}::test_rows_far_from_everything_are_loose_and_right"
)
def no_slack(patch: Patches) -> None:
    def put(original: Any) -> Any:
        return lambda self, layer, values, exponent, slack=0.0: original(self, layer, values, exponent, 0.0)

    patch(state.State, "put", put)


@mutant("sums say nothing of what their weights make of an error", f"{SCALED}::test_rows_that_are_not_loose_have_lost_nothing")  # fmt: skip  # noqa: E501
def no_gain(patch: Patches) -> None:
    patch(sums.SumLayer, "_spread", after(lambda found, weights: (found[0] * 0, found[1] * 0)))


@mutant("rows that lost digits are not computed again", f"{SCALED}::test_rows_far_from_everything_are_loose_and_right")
def trusted_rows(patch: Patches) -> None:
    patch(passes, "_settled", instead(lambda program, state, found: (found.logs, found.exponent)))


@mutant("rows that are computed again trade places", f"{SCALED}::test_rows_far_from_everything_are_loose_and_right")  # fmt: skip  # noqa: E501
def swapped_rows(patch: Patches) -> None:
    patch(passes, "_again", lambda old: lambda program, leaf, rows: old(program, leaf, rows.flip(0)))


@mutant("a log-sum-exp does not add back the maximum it subtracted", f"{SCALED}::test_rows_far_from_everything_are_loose_and_right")  # fmt: skip  # noqa: E501
def forgotten_shift(patch: Patches) -> None:
    def lower(total: Any, values: Any, dim: int) -> Any:
        peak = values.detach().amax(dim)
        return total - torch.where(torch.isfinite(peak), peak, 0.0)

    patch(numbers, "logsumexp2", after(lower))


@mutant("logs become numbers without an exponent", f"{KILLERS}::test_values_far_below_the_smallest_number")
def no_exponent_of_logs(patch: Patches) -> None:
    patch(numbers, "from_logs", after(lambda found, logs, dim=-1: (found[0], torch.zeros_like(found[1]))))


@mutant(
    "the log of a sum that is zero has a gradient", f"{GRADIENTS}::test_impossible_rows_have_no_gradient_in_transforms"
)
def gradient_of_zero(patch: Patches) -> None:
    patch(numbers, "log2", instead(lambda values: values.log2()))


@mutant("an outer product lets its first factor run fastest", f"{TABLE}::test_log_prob[layered-all rewrites]")
def swapped_factors(patch: Patches) -> None:
    def swap(_: Any, self: Any, state: Any) -> None:
        made = numbers.unflatten(state.of(self), -1, self.widths)
        state.numbers[self.index] = Rows(made.movedim(-1, 2).flatten(2))

    patch(products.OuterLayer, "up", after(swap))


@mutant("a product of many factors drops one", f"{TABLE}::test_log_prob[mixed_families-all rewrites]", f"{TABLE}::test_log_prob[rain-all rewrites]", "tests/tractability/test_backward.py")  # fmt: skip  # noqa: E501
def lost_factor(patch: Patches) -> None:
    def many(original: Any) -> Any:
        def changed(self: Any, state: Any, values: Any, exponent: Any, slack: Any) -> None:
            values, exponent = values.clone(), exponent.clone()
            values[: self.count], exponent[: self.count] = (0.0 if state.logs else 1.0), 0.0
            original(self, state, values, exponent, slack)

        return changed

    patch(products.ProductLayer, "_many", many)


# Leaves


@mutant("leaves take a missing value for an observed 0", f"{TABLE}::test_log_prob[rain-all rewrites]", f"{TABLE}::test_log_prob[scalar_graph-all rewrites]", f"{TABLE}::test_log_prob[mixed_families-all rewrites]")  # fmt: skip  # noqa: E501
def missing_is_zero(patch: Patches) -> None:
    def answer(self: Any, evidence: Any, family: Any, parameters: Any) -> Any:
        return family.log_prob(evidence[0], evidence[1] | True, parameters)

    patch(leaf_functions.Density, "answer", instead(answer))


@mutant("a look-up by states takes a missing value for the state 0", f"{SCALED}::test_log_prob[chain-0-torch.float64]")
def unfilled_table(patch: Patches) -> None:
    def entries(original: Any) -> Any:
        def changed(self: Any, state: Any) -> Any:
            x, observed = state.leaf.tensors()
            return original(self, replace(state, leaf=leaf_functions.Density(x.nan_to_num(), observed | True)))

        return changed

    patch(inputs.InputLayer, "_entries", entries)


@mutant("the matrix form forgets the mask of its statistics", f"{TABLE}::test_log_prob[normal_mixture-all rewrites]")
def unmasked_statistics(patch: Patches) -> None:
    def unmasked(total: Any, self: Any, state: Any, tensors: Any, form: Any) -> Any:
        x, observed = (t[:, self.columns] for t in tensors)
        statistics = self.family.sufficient_statistics(x.nan_to_num().to(form.centre.dtype), form.centre)
        for statistic, natural in zip(statistics, form.natural, strict=True):
            total = total + torch.matmul(self._rows_of(torch.where(observed, 0.0, statistic)), natural)
        return total

    patch(leaves.LeafProducts, "_matrix", after(unmasked))


@mutant(
    "the matrix form adds the normalisers of missing variables", f"{TABLE}::test_log_prob[normal_mixture-all rewrites]"
)
def unmasked_normaliser(patch: Patches) -> None:
    def unmasked(total: Any, self: Any, state: Any, tensors: Any, form: Any) -> Any:
        missing = ~tensors[1][:, self.columns]
        return total + torch.matmul(self._rows_of(missing.to(form.constant.dtype)), form.constant)

    patch(leaves.LeafProducts, "_matrix", after(unmasked))


@mutant("the table look-up does not add the most frequent rows", f"{KILLERS}::test_look_ups_by_difference_from_the_most_frequent_row")  # fmt: skip  # noqa: E501
def lost_base_row(patch: Patches) -> None:
    def without(total: Any, found: Any, table: Any) -> Any:
        base = numbers.unflatten(table[found.base], 0, (-1, found.arity)).sum(1).unsqueeze(1)
        return total - base if found.few else total

    patch(pairs, "look_up", after(without))


@mutant("the table look-up adds whole rows where it should add differences", f"{KILLERS}::test_look_ups_by_difference_from_the_most_frequent_row")  # fmt: skip  # noqa: E501
def kept_base_row(patch: Patches) -> None:
    def summed(original: Any) -> Any:
        return lambda table, rows, counts: original(table * 2, rows, counts)

    patch(pairs, "_summed", summed)


@mutant("the table look-up adds differences that lose the answer's digits", "tests/program/test_look_ups.py::test_a_row_likely_where_the_most_frequent_values_are_not_keeps_its_digits")  # fmt: skip  # noqa: E501
def trusted_differences(patch: Patches) -> None:
    patch(pairs, "LOST", lambda old: dict.fromkeys(old, torch.inf))


@mutant("rows of data whose leaves are far out are trusted", "tests/queries/test_found_in_review.py::test_a_row_far_out_leaves_the_gradients_of_the_others_as_they_are", FAR_OUT)  # fmt: skip  # noqa: E501
def trusted_far_rows(patch: Patches) -> None:
    patch(leaves, "too_far", instead(lambda logs: torch.zeros(logs.shape[:-1], dtype=torch.bool)))


@mutant("nobody notices values so far out that no digits are left", FAR_OUT)
def unnoticed_loss(patch: Patches) -> None:
    patch(inputs, "lost", instead(lambda logs, dtype: torch.zeros(logs.shape[:-1], dtype=torch.bool)))


@mutant(
    "the bins of a discretised density are off by one", "tests/families/test_discretized.py::test_masses_are_scipys"
)
def shifted_bins(patch: Patches) -> None:
    patch(AbstractDiscretized, "_log_bins", lambda old: lambda self, first, last, p: old(self, (first + 1).clamp(max=self.levels - 1), (last + 1).clamp(max=self.levels - 1), p))  # fmt: skip  # noqa: E501


@mutant("the last bin of a discretised density does not take its tail", "tests/families/test_discretized.py::test_edge_bins_take_the_tails")  # fmt: skip  # noqa: E501
def open_edge_bin(patch: Patches) -> None:
    def bins(original: Any) -> Any:
        def changed(self: Any, first: Any, last: Any, parameters: Any) -> Any:
            return original(replace(self, levels=self.levels + 1), first, last, {"loc": parameters["loc"] * self.levels / (self.levels + 1), "scale": parameters["scale"] * self.levels / (self.levels + 1)})  # fmt: skip  # noqa: E501

        return changed

    patch(AbstractDiscretized, "_log_bins", bins)


@mutant("a box has its edges swapped", f"{TABLE}::test_probability_of_a_box[scalar_graph-all rewrites]")
def swapped_box(patch: Patches) -> None:
    def answer(self: Any, evidence: Any, family: Any, parameters: Any) -> Any:
        x, observed, lower, upper = evidence
        return family.log_mass(upper, lower, x, observed, parameters)

    patch(leaf_functions.Box, "answer", instead(answer))


# Mixtures in ranges


@mutant("a streamed mixture keeps the last range of its components alone", "tests/program/test_look_ups.py::test_each_pair_is_evaluated_once_whatever_the_memory")  # fmt: skip  # noqa: E501
def last_range(patch: Patches) -> None:
    patch(mixture.MixtureLayer, "_summed", instead(lambda self, state, parts: parts[-1]))


@mutant("a streamed mixture forgets the last range of its components", f"{TABLE}::test_log_prob[normal_mixture-chunks of one]")  # fmt: skip  # noqa: E501
def lost_range(patch: Patches) -> None:
    patch(mixture.MixtureLayer, "_cut", after(lambda cut, self, state: (cut[0][:-1] or cut[0], cut[1])))


# Wiring


@mutant(
    "what is gathered from several layers has its rows reversed", f"{TABLE}::test_log_prob[mixed_families-all rewrites]"
)
def swapped_regions(patch: Patches) -> None:
    patch(edges.Gather, "_joined", lambda old: lambda self, parts: old(self, parts).flip(0) if len(parts) > 1 else old(self, parts))  # fmt: skip  # noqa: E501


@mutant(
    "a gather applies the inverse of its permutation", f"{KILLERS}::test_rows_of_several_layers_come_in_their_order"
)
def inverse_permutation(patch: Patches) -> None:
    def invert(_: Any, self: Any, *rest: Any) -> None:
        self.permutation = self.permutation.argsort()

    patch(edges.Gather, "__init__", after(invert))


@mutant("sums over one product are merged, and each reads the columns of the next", f"{KILLERS}::test_sums_over_one_product_keep_their_outputs")  # fmt: skip  # noqa: E501
def shifted_columns(patch: Patches) -> None:
    fuse = importlib.import_module("pcircuits.program.rewrites.fuse")  # the package gives the name to the function

    def shifted(original: Any) -> Any:
        return lambda plan, row_of, shift, merged: original(
            plan, row_of, np.where(merged, shift.max() - shift, shift), merged
        )

    patch(fuse, "_by_column", shifted)


@mutant("rows are reordered, but not their parameters", f"{TABLE}::test_log_prob[layered_normals-all rewrites]")
def layout_without_parameters(patch: Patches) -> None:
    def kept(self: Any, order: Any) -> Any:
        return replace(self, owner=self.owner[: len(order)], row=self.row[: len(order)])

    patch(plan.Owned, "take", instead(kept))


@mutant("what several read is fused as if one did", f"{REWRITES}::test_what_sums_read_beside_products_is_not_fused")
def fused_for_all(patch: Patches) -> None:
    patch(plan.Plan, "readers", after(lambda count, self: np.minimum(count, 1)))


@mutant("a parameter of a layer starts at the next row", f"{TABLE}::test_log_prob[layered_normals-all rewrites]", f"{SCALED}::test_log_prob[chain-0-torch.float64]", f"{TABLE}::test_log_prob[scalar_graph-all rewrites]")  # fmt: skip  # noqa: E501
def neighbours_parameters(patch: Patches) -> None:
    patch(stores.View, "_of", after(lambda made, self, *rest: made.roll(1, 0)))


# The way back


@mutant("flows are not divided by the sum's value", f"{TABLE}::test_statistics[layered-all rewrites-True]", f"{SCALED}::test_flows[chain-0-torch.float64]")  # fmt: skip  # noqa: E501
def undivided_flow(patch: Patches) -> None:
    patch(sums, "quotient", instead(lambda flow, values: flow * 1.0))


@mutant("flows forget how far exponents lie apart", f"{SCALED}::test_flows[mixed-0-torch.float64]")
def flow_of_one_exponent(patch: Patches) -> None:
    patch(sums, "_ratio", instead(lambda exponents, dtype: torch.ones_like(exponents).to(dtype)))


@mutant(
    "a unit with several parents keeps the flow of the last one", f"{KILLERS}::test_flows_of_several_parents_add_up"
)
def overwritten_flow(patch: Patches) -> None:
    def add(original: Any) -> Any:
        def changed(self: Any, number: int, part: Any, flows: Any, begin: int) -> None:
            rows = self._buffer("rows", number)[begin : begin + len(part)]
            self._total(number, part, flows).index_copy_(0, rows, part)

        return changed

    patch(edges.Gather, "_add", add)


@mutant("a unit that one sum reads twice keeps the flow of one reading", f"{KILLERS}::test_flows_of_a_unit_that_is_wired_twice_add_up")  # fmt: skip  # noqa: E501
def overwritten_flow_of_a_unit(patch: Patches) -> None:
    def add(total: Any, rows: Any, columns: Any, part: Any) -> None:
        total.transpose(1, 2).index_put_((rows, columns), part, accumulate=False)

    patch(edges.Gather, "_add_units", instead(add))


@mutant("flows reach the rows in the opposite order", f"{TABLE}::test_statistics[layered-all rewrites-True]", f"{SCALED}::test_flows[chain-0-torch.float64]", f"{TABLE}::test_statistics[scalar_graph-no rewrites-True]", f"{REWRITES}::test_the_order_of_columns_does_not_matter")  # fmt: skip  # noqa: E501
def misplaced_flow(patch: Patches) -> None:
    patch(edges.Gather, "scatter", lambda old: lambda self, flow, flows, begin=0: old(self, flow.flip(0), flows, begin))


@mutant("the gradient of a tied weight is that of its last use", f"{GRADIENTS}::test_tied_weights_have_the_sum_of_their_gradients")  # fmt: skip  # noqa: E501
def tied_once(patch: Patches) -> None:
    def once(original: Any) -> Any:
        return lambda self, gradient, stored: original(self, gradient, stored) if self.view.place is None else gradient[-stored:]  # fmt: skip  # noqa: E501

    patch(sums.Weights, "of_stored", once)


@mutant(
    "gradients of later pieces take the place of earlier ones",
    f"{GRADIENTS}::test_gradients_in_chunks_are_the_gradients",
)
def last_piece(patch: Patches) -> None:
    patch(
        layer.Gradients,
        "add",
        instead(lambda self, layer, name, made: self.made.__setitem__((layer.index, name), made)),
    )


@mutant("the posterior is that of the next region", f"{SCALED}::test_flows[tree-0-torch.float64]", f"{TABLE}::test_posterior[layered-all rewrites-True]")  # fmt: skip  # noqa: E501
def posterior_of_the_next(patch: Patches) -> None:
    def next_one(original: Any) -> Any:
        def changed(self: Any, state: Any, own: Any, begin: int, flows: Any, rows: Any) -> None:
            original(self, state, own, begin, lambda r: flows((r + 1) % own.count), rows)

        return changed

    patch(posteriors._Edges, "edges", next_one)


# Parameters


@mutant("a zero on the simplex becomes a number", f"{KILLERS}::test_a_zero_of_a_simplex_is_exact")
def lost_zero_of_a_simplex(patch: Patches) -> None:
    patch(stores.Store, "unconstrained", instead(lambda self: self.raw))


@mutant("kept parameters are never compared with those of now", f"{KILLERS}::test_answers_follow_the_parameters")
def stale_parameters(patch: Patches) -> None:
    patch(program, "_equal", instead(lambda one, other: one.shape == other.shape))


@mutant("kept parameters are compared by identity", f"{CHANGES}::test_answers_follow_every_change")
def same_object(patch: Patches) -> None:
    seen: dict[int, int] = {}

    def version(one: Any, other: Any) -> bool:
        key = (one.data_ptr(), one._version)
        return seen.setdefault(other.data_ptr(), key) == key

    patch(program, "_equal", instead(version))


@mutant("the pass that a conditional kept is never old", f"{CHANGES}::test_conditionals_follow_every_change")
def stale_pass(patch: Patches) -> None:
    patch(conditional.Conditional, "_found", instead(lambda self: None if self._kept is None else self._kept[1]))


@mutant("a state that is loaded fills parameters from their end", f"{CHANGES}::test_states_load_across_rewrites")
def reversed_state(patch: Patches) -> None:
    patch(stores.Stores, "_put", lambda old: lambda self, number, flat: old(self, number, flat.flip(0)))


@mutant("what is saved are the parameters before training", f"{CHANGES}::test_states_load_across_rewrites")
def state_before_training(patch: Patches) -> None:
    patch(stores.Stores, "_now", after(lambda found, self, number: (found[1].to(found[0].dtype), found[1])))


@mutant("rows of data are never cut to the bound on memory", "tests/tractability/test_memory_bound.py")
def no_pieces(patch: Patches) -> None:
    patch(program.Program, "rows_together", instead(lambda self, keep, spend=False: None))


# Queries


@mutant("a conditional is not divided by the evidence", f"{TABLE}::test_conditional_log_prob[rain-all rewrites]")
def joint_for_conditional(patch: Patches) -> None:
    patch(conditional.Conditional, "log_known", after(lambda found, self: tuple(0 * t for t in found)))


@mutant("the variance forgets how far the components' means lie apart", f"{TABLE}::test_statistics[scalar_graph-all rewrites-True]")  # fmt: skip  # noqa: E501
def variance_within(patch: Patches) -> None:
    def within(self: Any, state: Any, family: Any, columns: Any, parameters: Any, flow: Any) -> None:
        x = torch.zeros((1, 1, 1, 1), dtype=flow.dtype)
        units = family.variance(x, x > 0, parameters)[..., 0].to(flow.dtype).expand(*columns.shape[:2], flow.shape[-1])
        self.total.index_add_(
            1, columns.flatten(), torch.matmul(flow, units.transpose(1, 2)).permute(1, 0, 2).flatten(1)
        )

    patch(moments._Spread, "leaves", instead(within))


@mutant("a dense sum draws from its prior, not its posterior", f"{KILLERS}::test_samples_follow_the_conditional[dense-rewritten]")  # fmt: skip  # noqa: E501
def prior_samples_of_dense_sums(patch: Patches) -> None:
    patch(edges.Gather, "logs_at", after(lambda logs, *rest: torch.zeros_like(logs)))


@mutant("an elementwise sum draws from its prior, not its posterior", f"{KILLERS}::test_samples_follow_the_conditional[scalar-rewritten]")  # fmt: skip  # noqa: E501
def prior_samples_of_mixes(patch: Patches) -> None:
    patch(edges.Gather, "unit_logs_at", after(lambda logs, *rest: torch.zeros_like(logs)))


@mutant("a fused mixture draws from its prior, not its posterior", f"{KILLERS}::test_samples_follow_the_conditional[mixture-rewritten]")  # fmt: skip  # noqa: E501
def prior_samples_of_mixtures(patch: Patches) -> None:
    def choose(original: Any) -> Any:
        def changed(self: Any, *arguments: Any) -> None:
            values = self._values
            self.__dict__["_values"] = lambda *some: (torch.zeros_like(values(*some)[0]), values(*some)[1])
            original(self, *arguments)
            del self.__dict__["_values"]

        return changed

    patch(mixture.MixtureLayer, "_choose_within", choose)


@mutant(
    "a draw ignores how probable its choices are", f"{KILLERS}::test_samples_follow_the_conditional[dense-rewritten]"
)
def even_samples(patch: Patches) -> None:
    patch(sampling.Draw, "_pick", lambda old: lambda self, scores, group: old(self, scores.sign(), group))


@mutant("map takes the smallest input of a sum", f"{TABLE}::test_most_probable_completion[gated-all rewrites]")
def least_probable(patch: Patches) -> None:
    patch(maximum.Largest, "pick_within", lambda old: lambda self, scores, group: old(self, -scores, group))


@mutant("the upper bound of map takes maxima at sums that are not deterministic", f"{TABLE}::test_most_probable_completion[scalar_graph-all rewrites]")  # fmt: skip  # noqa: E501
def low_bound(patch: Patches) -> None:
    patch(
        conditional.Conditional, "deterministic_sums", instead(property(lambda self: [True] * len(self.program.layers)))
    )


@mutant("map says that a candidate is exact whatever the bound", "tests/queries/test_map_is_exact_only_where_it_is.py")
def always_exact(patch: Patches) -> None:
    patch(maximum, "rounding_of", instead(lambda given, value: torch.full_like(value, torch.inf)))


# Vector-quantised sources


@mutant(
    "the class marginal forgets log p(c)", "tests/vq_priors/test_prior_laws.py::test_marginal_is_the_sum_over_classes"
)
def uniform_classes(patch: Patches) -> None:
    marginal = vq_sources.priors.class_marginal.ClassMarginal
    patch(marginal, "_log_joint", after(lambda joint, self, codes: joint - self.class_probs.log()))


@mutant("the running class posterior forgets log p(c) where it starts", "tests/vq_priors/test_prior_suite.py::test_the_marginal_starts_from_unequal_classes")  # fmt: skip  # noqa: E501
def uniform_start(patch: Patches) -> None:
    marginal = vq_sources.priors.class_marginal.ClassMarginal
    patch(marginal, "start", after(lambda state, *rest, **options: replace(state, log_joint=torch.zeros_like(state.log_joint))))  # fmt: skip  # noqa: E501


@mutant("the class posterior is not updated by the symbols seen", "tests/vq_priors/test_prior_laws.py::test_next_symbols_sum_to_one_and_chain_to_log_prob")  # fmt: skip  # noqa: E501
def stuck_classes(patch: Patches) -> None:
    marginal = vq_sources.priors.class_marginal.ClassMarginal
    patch(
        marginal, "extend", after(lambda extended, self, state, symbols: replace(extended, log_joint=state.log_joint))
    )


@mutant("the children of a stochastic beam are not conditioned on their maximum", "tests/vq_selection/test_samplers_law.py::test_children_keep_the_maximum_and_have_the_law_of_conditioned_gumbels")  # fmt: skip  # noqa: E501
def free_gumbels(patch: Patches) -> None:
    beam = vq_sources.selection.stochastic_beam_search
    patch(beam, "perturb", instead(lambda log_probs, maximum, noise: log_probs + noise))


@mutant("the weights of a bound are renormalised", "tests/vq_distil/test_distil.py::test_the_bound_rises_over_nested_sets_and_never_passes_the_teacher[family0]")  # fmt: skip  # noqa: E501
def renormalised_bound(patch: Patches) -> None:
    def normalised(made: Any, *rest: Any, **options: Any) -> Any:
        return Parameter.from_log(torch.log_softmax(made.log(), -1), simplex) if isinstance(made, Parameter) else made

    patch(importlib.import_module("vq_sources.distil"), "component_weights", after(normalised))


@mutant("composed sums forget how probable their codes are", "tests/vq_compose/test_compose.py::test_it_is_the_sum_over_all_codes[1 roots-Normal()-eager]")  # fmt: skip  # noqa: E501
def even_codes(patch: Patches) -> None:
    def even(made: Parameter, *rest: Any) -> Parameter:
        return Parameter(torch.full(made.shape, 1 / made.shape[-1], dtype=torch.float64), simplex)

    patch(importlib.import_module("vq_sources.compose")._Codes, "_weights", after(even))


@mutant("composed units take the patch of the position before theirs", "tests/vq_compose/test_compose.py::test_positions_may_have_other_numbers_of_codes_and_variables")  # fmt: skip  # noqa: E501
def wrong_patches(patch: Patches) -> None:
    def rolled(old: Any) -> Any:
        def changed(self: Any, patches: Any, *rest: Any) -> None:
            old(self, patches[[*range(1, patches.regions), 0]], *rest)

        return changed

    patch(importlib.import_module("vq_sources.compose")._Codes, "__init__", rolled)


@mutant("a decoder that mixes positions is composed", "tests/vq_compose/test_compose.py::test_what_does_not_compose_says_why[mixing]")  # fmt: skip  # noqa: E501
def believed_locality(patch: Patches) -> None:
    patch(importlib.import_module("vq_sources.compose"), "_check_local", instead(lambda *rest: None))


@mutant("the next code of a circuit does not depend on the codes before it", "tests/vq_priors/test_circuit_prior.py::test_it_conforms[1]")  # fmt: skip  # noqa: E501
def prior_of_next_codes(patch: Patches) -> None:
    prior = importlib.import_module("vq_sources.priors.circuit").CircuitPrior

    def forgetful(old: Any) -> Any:
        def changed(self: Any, prefix: torch.Tensor, label: Any) -> torch.Tensor:
            return old(self, prefix * 0, label)

        return changed

    patch(prior, "_next_log_probs", forgetful)


@mutant("the divergence of a Gaussian mixture's codes is that of each vector", "tests/vq_models/test_gmvq.py::test_its_parts_are_those_of_the_aggregated_posterior")  # fmt: skip  # noqa: E501
def divergence_of_vectors(patch: Patches) -> None:
    def changed(parts: Any, self: Any, vectors: torch.Tensor) -> Any:
        return {**parts, "kl": parts["kl"] + parts["entropy"] - parts["conditional_entropy"]}

    quantizers = importlib.import_module("vq_sources.quantizers.gaussian_mixture")
    patch(quantizers.GaussianMixtureQuantizer, "parts", after(changed))


@mutant("the noise of a Gaussian mixture does not grow with the distance", "tests/vq_models/test_gmvq.py::test_cold_samples_are_codes_by_their_probabilities_with_noise_about_their_means")  # fmt: skip  # noqa: E501
def even_noise(patch: Patches) -> None:
    quantizers = importlib.import_module("vq_sources.quantizers.gaussian_mixture")
    patch(quantizers.torch, "cdist", after(lambda made, *rest, **options: torch.full_like(made, 1e3)))


@mutant("fine-tuning weighs all codes alike", "tests/vq_tuning/test_finetune.py::test_with_all_codes_its_gradient_is_that_of_the_likelihood")  # fmt: skip  # noqa: E501
def even_weights(patch: Patches) -> None:
    def even(self: Any) -> torch.Tensor:
        return torch.full((len(self.log_weights),), 1 / len(self.log_weights), dtype=torch.float64)

    patch(importlib.import_module("vq_sources.finetune")._Tuned, "weights", instead(even))


@mutant("calibration divides scales where it should multiply them", "tests/vq_tuning/test_calibrate.py::test_scales_that_are_too_small_are_found_out_and_everything_else_stays")  # fmt: skip  # noqa: E501
def divided_scales(patch: Patches) -> None:
    def inverted(old: Any) -> Any:
        return lambda self, model, factors: old(self, model, 1 / factors)

    patch(importlib.import_module("vq_sources.calibrate").CalibratedDecoder, "__init__", inverted)


# Learning

EM = "tests/learning/test_em.py"


@mutant("expected counts of weights are gradients, not times the weights", f"{EM}::test_counts_agree_with_the_oracle")
def counts_without_weights(patch: Patches) -> None:
    counts = importlib.import_module("pcircuits.program.counts")

    def unweighted(self: Any, layer: Any, weights: Any, scaled: Any, in_logs: Any) -> None:
        if scaled is not None:
            self._add_stored(weights.view, scaled)

    patch(counts._Reader, "_add_weights", instead(unweighted))


@mutant("EM forgets the weights of rows", f"{EM}::test_weights_of_rows_are_repetitions")
def rows_alike(patch: Patches) -> None:
    em = importlib.import_module("pcircuits.learning.em")

    def alike(old: Any) -> Any:
        return lambda tally, x, observed, weights, roots: old(tally, x, observed, None, roots)

    patch(em, "expected_counts", alike)


@mutant("averages over batches are not in the checkpoint", f"{EM}::test_a_run_that_stopped_goes_on_as_if_it_had_not")
def forgotten_averages(patch: Patches) -> None:
    averaging = importlib.import_module("pcircuits.learning.averaging")
    patch(averaging.Memory, "load", instead(lambda self, state: None))


@mutant("a held parameter is trained", f"{EM}::test_held_parameters_stay")
def nothing_is_held(patch: Patches) -> None:
    m_step = importlib.import_module("pcircuits.learning.m_step")

    def written(groups: Any, name: str, value: torch.Tensor) -> None:
        (store,) = groups.stores[name]
        store.raw.data.copy_(store.constraint.unconstrain(value + 1.0).to(store.raw))

    patch(m_step, "_write", instead(written))


@dataclass(frozen=True)
class Outcome:
    """A run of pytest: how it ended (None: at the limit), its seconds, and the first test that failed."""

    code: int | None
    seconds: float
    failed: str
    output: str


@contextmanager
def applied(mutant: Mutant) -> Iterator[Patches]:
    """The packages of this process with a mutant, for a while."""
    patches = Patches()
    try:
        mutant.apply(patches)
        yield patches
    finally:
        patches.undo()


def run(mutant: Mutant | None, tests: Sequence[str], limit: float, *options: str) -> Outcome:
    """Run some tests with a mutant, or without, up to the first failure or the limit."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    options = ("-x", "-q", "--tb=short", "-p", "no:cacheprovider", *options)
    command = [sys.executable, "-c", CHILD, __file__, "" if mutant is None else mutant.name, *tests, *options]
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            timeout=limit,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.TimeoutExpired as late:
        return Outcome(None, time.perf_counter() - begin, "", str(late.output))
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    failed = lines[0].removeprefix("FAILED ").split(" - ")[0] if lines else ""
    return Outcome(done.returncode, time.perf_counter() - begin, failed, done.stdout)


def passing(mutants: Sequence[Mutant], limit: float = LIMIT) -> Outcome:
    """The tests of some mutants without them. **Raises** `RuntimeError` where they do not pass."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.killed_by))
    outcome = run(None, tests, limit * (1 + len(mutants)))
    if outcome.code != 0:
        raise RuntimeError(f"the tests do not pass on the unchanged packages\n{outcome.output}")
    return outcome


def judge(mutant: Mutant, limit: float = LIMIT) -> tuple[bool, Outcome]:
    """Whether a mutant's tests fail with it within the limit, and how they ended.

    **Raises** `RuntimeError` where the tests could not be run: a mutant must compute, wrongly.
    """
    outcome = run(mutant, mutant.killed_by, limit)
    if outcome.code not in (None, 0, 1):
        raise RuntimeError(f"{mutant.name}: its tests could not be run on the mutant\n{outcome.output}")
    return outcome.code == 1, outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--list", action="store_true", help="name the mutants and what they break")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[m.name for m in MUTANTS], help="only these")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds in which tests must fail (%(default)s)")
    parsed = parser.parse_args(arguments)
    mutants = [m for m in MUTANTS if not parsed.only or m.name in parsed.only]
    if parsed.list:
        for mutant in mutants:
            print(f"{mutant.name:28} {mutant.breaks}")
        return 0
    try:
        return _report(mutants, parsed.limit)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2


def _report(mutants: Sequence[Mutant], limit: float) -> int:
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
