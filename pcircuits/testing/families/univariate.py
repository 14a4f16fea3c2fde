"""The contract of univariate families, law by law."""

from __future__ import annotations

from pcircuits.families.interface import AbstractUnivariate, Parameters
from pcircuits.testing.families import calls, derivatives, draws, laws
from pcircuits.testing.families.case import Case

__all__ = ["check_univariate"]

LAWS = (
    laws.rebuilds,
    laws.sums_to_one,
    laws.mass_of_intervals,
    laws.mode_is_largest,
    laws.moments,
    laws.observed_values_are_kept,
    derivatives.missing_values_leave_no_trace,
    calls.broadcasts_as_the_engine_calls,
    derivatives.impossible_values_have_zero_gradients,
    derivatives.gradients,
    calls.single_precision,
    calls.exponential_form,
)


def check_univariate(family: AbstractUnivariate, parameters: Parameters, count: int, seed: int) -> None:
    """Every law of a family over one variable, on `count` draws from `seed`; see `check_family`."""
    case = Case.of(family, parameters)
    for law in LAWS:
        law(case)
    draws.draws_keep_to_their_generator(case, seed)
    draws.draws_follow_the_density(case, count, seed)
