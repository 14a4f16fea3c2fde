"""Univariate families as the engine calls them: broadcast, in single precision, in exponential form."""

from __future__ import annotations

import torch

from pcircuits.families.interface import AbstractExponentialFamily
from pcircuits.testing.families.case import Case, mass

__all__ = ["broadcasts_as_the_engine_calls", "exponential_form", "single_precision"]


def broadcasts_as_the_engine_calls(case: Case) -> None:
    """Units (1, 1, K) at values (1, B, 1), as they are one by one."""
    one = {name: value.unsqueeze(0).unsqueeze(0) for name, value in case.parameters.items()}
    x = case.points[torch.linspace(0, len(case.points) - 1, 7).long(), :1].unsqueeze(0)
    got = case.log_prob(x, one)
    if got.shape != (1, 7, case.units):
        raise AssertionError(f"log_prob of {case.family} has shape {tuple(got.shape)}, not {(1, 7, case.units)}")
    case.close(got[0], torch.stack([case.log_prob(v) for v in x[0].expand(-1, case.units)]), "log_prob, broadcast,")
    bounds = x.unsqueeze(-1)
    found = mass(case.family, bounds, bounds + 1.5, one)
    columns = x[0].expand(-1, case.units).unsqueeze(-1)
    want = [mass(case.family, column, column + 1.5, case.parameters) for column in columns]
    case.close(found[0], torch.stack(want), "log_mass, broadcast,")


def single_precision(case: Case) -> None:
    """Float32 in, float32 out, of every method; log_prob is that of the rounded parameters."""
    single = {name: value.float() for name, value in case.parameters.items()}
    x = case.points[torch.linspace(0, len(case.points) - 1, 9).long()].float()
    missing = torch.full((case.units, 1), torch.nan)
    seen, generator, family = missing > 0, torch.Generator().manual_seed(0), case.family
    answers = {
        "log_prob": case.log_prob(x, single),
        "log_mass": mass(family, x[0].unsqueeze(-1), x[-1].unsqueeze(-1), single),
        "mode": family.mode(missing, seen, single),
        "log_mode": family.log_mode(missing, seen, single),
        "sample": family.sample(missing, seen, single, generator),
        "moment": family.moment(2, missing, seen, single),
        "variance": family.variance(missing, seen, single),
        "expectation": family.expectation(torch.cos, missing, seen, single),
    }
    for name, answer in answers.items():
        if answer.dtype != torch.float32:
            raise AssertionError(f"{name} of {family} in float32 has dtype {answer.dtype}")
    want = case.log_prob(x.double(), {name: value.double() for name, value in single.items()})
    case.close(answers["log_prob"].double(), want, "log_prob in float32", tolerance=1e-4)


def exponential_form(case: Case) -> None:
    """Σ_t η_t T_t(x - c) plus the rest and log h(x) is log p(x), about the family's centre and about another."""
    family = case.family
    if not isinstance(family, AbstractExponentialFamily):
        return
    best = family.centre({name: value.unsqueeze(0) for name, value in case.parameters.items()})
    if best.shape != (1,):
        raise AssertionError(f"the centre of {family} for (1, K) units has shape {tuple(best.shape)}, not (1,)")
    x = case.points[:: len(case.points) // 9]
    for centre in (best, best + 1.0):
        eta, rest = family.natural_parameters(case.parameters, centre)
        size = family.cancellation(case.parameters, centre)
        terms = family.sufficient_statistics(x, centre)
        size = torch.where(size.isfinite(), size, 0.0)  # infinite where the form must not be taken, for other reasons
        total = (
            family.log_base_measure(x)
            + rest
            + sum((e * t for e, t in zip(eta, terms, strict=True)), torch.zeros(()).double())
        )
        lost = 1e-9 + 1e-15 * size.max().item()
        case.close(total, case.log_prob(x), f"the exponential form about {centre.item():.6g}", tolerance=lost)
