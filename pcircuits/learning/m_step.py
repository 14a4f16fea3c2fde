"""The M-step: parameters of largest likelihood, given expected counts."""

from __future__ import annotations

import torch
from torch import Tensor

from pcircuits.families.finite import AbstractFinite
from pcircuits.families.interface import AbstractExponentialFamily, Parameters, no_smaller
from pcircuits.learning.errors import TrainingError
from pcircuits.program.counts import Counts, Tally, UnitGroups
from pcircuits.program.program import Program
from pcircuits.program.stores import Store

__all__ = ["maximise", "require_updates"]

STEPS = 50
"""How many steps of L-BFGS are tried where parameters are tied across units, or some of them are held."""


def maximise(tally: Tally, counts: Counts, pseudocount: float, minimum_scale: float) -> None:
    """Give a program's parameters the values of largest Σ counts · log p, where gradients are asked for.

    Weights and tables of probabilities are shares of their counts; a sum or unit that nothing uses keeps its own.
    Families that have no closed form for what is shared, or held, are climbed from where they are: their likelihood does
    not fall either.
    """
    with torch.no_grad():
        for store, name in tally.names.items():
            if store.constraint.event_ndim and store.raw.requires_grad and name in counts.tensors:
                store.raw.copy_(_log_shares(store, counts.tensors[name], pseudocount))
        for number, groups in enumerate(tally.groups):
            if not any(groups.trained):
                continue
            statistics, count = tally.of_group(counts, number)
            before = groups.parameters()
            if all(groups.trained) and groups.separate:
                after = groups.family.m_step(
                    statistics,
                    count,
                    before,
                    pseudocount=pseudocount,
                    minimum_scale=minimum_scale,
                    centre=groups.centre,
                )
            else:
                after = _climbed(groups, statistics, count, pseudocount, minimum_scale)
            for name, value in after.items():
                _write(groups, name, value)


def _log_shares(store: Store, counts: Tensor, pseudocount: float) -> Tensor:
    """The logs of the shares of counts (n, S) in their rows; structural zeros stay, and have the number 0 in `raw`."""
    possible = torch.ones_like(counts) if store.edges is None else (store.edges == 0).to(counts)
    used = counts.sum(-1, keepdim=True)
    total = counts + pseudocount * possible
    shares = total / total.sum(-1, keepdim=True).clamp_min(torch.finfo(counts.dtype).tiny)
    logs = shares.clamp_min(torch.finfo(shares.dtype).tiny).log()
    logs = torch.where(used > 0, logs, store.raw.to(logs))
    return (logs * possible).to(store.raw.dtype)


def _write(groups: UnitGroups, name: str, value: Tensor) -> None:
    """Let the groups have these values of a parameter, (G, *event), where it is trained."""
    stores, entries = groups.stores[name], groups.entries[name]
    if entries.ndim > 1:  # vectors of numbers that are free of each other
        entries, value = entries.flatten(), value.flatten()
    begin = 0
    for store in stores:
        here = (entries >= begin) & (entries < begin + len(store.raw))
        if store.raw.requires_grad and bool(here.any()):
            largest = -torch.log(torch.tensor(torch.finfo(store.raw.dtype).tiny)).item()
            raw = store.constraint.unconstrain(value[here].double())
            if store.constraint.name != "real":
                raw = raw.clamp(-largest, largest)
            own = store.raw.index_copy(0, entries[here] - begin, raw.to(store.raw.dtype))
            store.raw.copy_(own if store.edges is None else torch.where(store.edges != 0, store.raw, own))
        begin += len(store.raw)


def _climbed(
    groups: UnitGroups, statistics: list[Tensor], count: Tensor, pseudocount: float, minimum_scale: float
) -> Parameters:
    """Parameters that make Σ_g counts_g · log p(T | parameters) larger, by L-BFGS from those of now.

    The number of data does not matter to the cost: they are only in the statistics.
    """
    stores = {store: None for homes in groups.stores.values() for store in homes}
    raw = {store: store.raw.detach().double().clone() for store in stores}
    moved = {store: raw[store].requires_grad_() for store in stores if store.raw.requires_grad}
    if isinstance(groups.family, AbstractFinite):
        statistics = [statistics[0] + pseudocount * (statistics[0].sum(-1, keepdim=True) > 0)]

    def form(store: Store) -> Tensor:
        inside = raw[store]
        return store.constraint.constrain(
            inside if store.edges is None else torch.where(store.edges != 0, store.edges.double(), inside)
        )

    def loss() -> Tensor:
        return -_objective(groups, statistics, count, groups.parameters(form)) / count.sum().clamp_min(1.0)

    with torch.enable_grad():
        first = float(loss().detach())
        search = torch.optim.LBFGS(
            list(moved.values()), max_iter=STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-12
        )

        def closure() -> Tensor:
            search.zero_grad()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        search.step(closure)  # type: ignore[no-untyped-call]
        last = float(loss().detach())
    with torch.no_grad():
        if not last <= first:
            return {}
        found, before = groups.parameters(form), groups.parameters()
        if "scale" in found:
            found["scale"] = no_smaller(found["scale"], before["scale"], minimum_scale)
        return found


def _objective(groups: UnitGroups, statistics: list[Tensor], count: Tensor, parameters: Parameters) -> Tensor:
    """Σ_g counts_g · log p: linear in the statistics, of an exponential family or of a table of states."""
    family = groups.family
    if isinstance(family, AbstractFinite):
        logs = family.log_table(parameters)
        return torch.where(statistics[0] > 0, statistics[0] * torch.where(statistics[0] > 0, logs, 0.0), 0.0).sum()
    assert isinstance(family, AbstractExponentialFamily)
    natural, constant = family.natural_parameters(parameters, groups.centre)
    used = count > 0
    total = sum(
        (torch.where(used, s * n, 0.0) for s, n in zip(statistics, natural, strict=True)), constant.new_zeros(())
    )
    return (total + torch.where(used, count * constant, 0.0)).sum()


def require_updates(program: Program, tally: Tally) -> None:
    """Raise `TrainingError` for what expectation-maximisation has no update for, by name."""
    if len(program.sources) and any(p.requires_grad for p in program.sources.parameters()):
        kinds = ", ".join(sorted({type(source).__name__ for source in program.sources.values()}))
        raise TrainingError(
            f"em has no update for parameters that a source makes ({kinds}): train them by gradients "
            "(pcircuits.learning.fit), or freeze them with requires_grad_(False)"
        )
    for store, name in tally.names.items():
        families = {s for groups in tally.groups for homes in groups.stores.values() for s in homes}
        if store.raw.requires_grad and not store.constraint.event_ndim and store not in families:
            raise TrainingError(
                f"em has no update for {name}: weights that need not sum to 1 have no closed form. Normalise the circuit "
                "before it is compiled (pcircuits.normalise), or freeze them with requires_grad_(False)"
            )
    for groups in tally.groups:
        family = groups.family
        if not any(groups.trained):
            continue
        linear = isinstance(family, AbstractFinite | AbstractExponentialFamily)
        if not linear and not (all(groups.trained) and groups.separate):
            raise TrainingError(
                f"em has no update for {family} where units share some of their parameters and not others, or some are "
                "held: share all of them, or train by gradients (pcircuits.learning.fit)"
            )
