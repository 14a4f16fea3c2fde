"""`check_source`: whether a source's parameters depend on nothing but the columns that are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Input
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Source, Sourced, check, simplex
from pcircuits.queries.compiled import CompiledCircuit

__all__ = ["check_source"]

DIGITS = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How far answers that differ in the order of additions may be apart, relative to the larger of 1 and themselves."""


def check_source(source: nn.Module, family: AbstractFamily, width: int, *, rows: int = 6, seed: int = 0) -> None:
    """Check a source of the parameters of (R, K) units: shapes, constraints, chunks, modes, gradients, circuits.

    **Arguments**

    - `source`: an `nn.Module` with `parameters_for(columns) -> dict`, each (R, n, *event), for columns (n,) below K.
    - `family`: whose parameters these are.
    - `width`: K, at least 2; small, as every column is asked for many times.
    - `rows`, `seed`: rows of data to compare circuits on, drawn from the circuit itself.

    **Raises** `AssertionError` that names what differs; `ParameterError` for parameters outside their constraints.

    >>> from pcircuits.families import Normal
    >>> class Table(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.loc = nn.Parameter(torch.arange(6.0).view(2, 3))
    ...     def parameters_for(self, columns):
    ...         loc = self.loc[:, columns]
    ...         return {"loc": loc, "scale": torch.ones_like(loc)}
    >>> check_source(Table(), Normal(), width=3)
    """
    if not isinstance(source, Source):
        raise AssertionError(f"{type(source).__name__} has no method parameters_for(columns)")
    was_training = source.training
    try:
        whole = _shapes_and_constraints(source, family, width)
        _columns_decide_alone(source, whole, width)
        _modes_change_nothing(source, width)
        _gradients_add_up(source, whole, width)
        _circuits_equal_eager_ones(source, family, whole, rows, seed)
    finally:
        source.train(was_training)


Made = Mapping[str, Tensor]
Chunks = Sequence[Sequence[int]]


def _made(source: Source, columns: Sequence[int]) -> dict[str, Tensor]:
    return source.parameters_for(torch.tensor(columns, dtype=torch.int64))


def _shapes_and_constraints(source: Source, family: AbstractFamily, width: int) -> dict[str, Tensor]:
    """(R, n, *event) of every parameter of the family, within its constraint."""
    whole = _made(source, range(width))
    if set(whole) != set(family.parameters):
        raise AssertionError(f"the source makes {sorted(whole)}; {family} has the parameters {list(family.parameters)}")
    regions = {value.shape[0] for value in whole.values()}
    for name, spec in family.parameters.items():
        value = whole[name]
        if value.ndim != 2 + spec.event_ndim or value.shape[1] != width or len(regions) != 1:
            shapes = {key: tuple(v.shape) for key, v in whole.items()}
            raise AssertionError(
                f"for {width} columns the parameters have the shapes {shapes}, not (R, {width}, *event)"
            )
        check(value.detach(), spec.constraint, f"{name} of the source")
    family.validate({name: value.detach() for name, value in whole.items()})
    return whole


def _close(got: Tensor, want: Tensor, what: str) -> None:
    if got.shape != want.shape or got.dtype != want.dtype:
        raise AssertionError(f"{what} is {tuple(got.shape)} {got.dtype}, not {tuple(want.shape)} {want.dtype}")
    digits = DIGITS.get(want.dtype, 1e-9)
    right = (got == want) | ((got - want).abs() <= digits * want.abs().clamp(min=1.0))
    if not bool(right.all()):
        where = tuple((~right).nonzero()[0].tolist())
        raise AssertionError(f"{what} is {got[where].item()!r}, not {want[where].item()!r}, at {list(where)}")


def _chunkings(width: int) -> dict[str, Chunks]:
    return {
        "one by one": [[k] for k in range(width)],
        "in two chunks": [list(range(width // 2)), list(range(width // 2, width))],
        "in reverse": [list(range(width))[::-1]],
        "some of them twice": [[0, width - 1, 0, 0], [width - 1, 1]],
        "none of them": [[], [0]],
    }


def _columns_decide_alone(source: Source, whole: Made, width: int) -> None:
    with torch.no_grad():
        for how, chunks in _chunkings(width).items():
            columns = torch.tensor([k for chunk in chunks for k in chunk], dtype=torch.int64)
            parts = [_made(source, chunk) for chunk in chunks]
            for name, value in whole.items():
                got = torch.cat([part[name] for part in parts], 1)
                _close(got, value.detach()[:, columns], f"{name}, when columns are asked for {how},")


def _modes_change_nothing(source: nn.Module, width: int) -> None:
    """Train and eval, asked again and again: the same numbers, no number drawn, no buffer moved."""
    assert isinstance(source, Source)
    before = {name: value.clone() for name, value in source.state_dict().items() if isinstance(value, Tensor)}
    drawn = torch.get_rng_state()
    with torch.no_grad():
        answers = [_made(source.train(mode), range(width)) for mode in (True, False, True)]
    for name in answers[0]:
        for mode, answer in zip(("eval", "train, asked again"), answers[1:], strict=True):
            _close(answer[name], answers[0][name], f"{name} in mode {mode}")
    if not torch.equal(torch.get_rng_state(), drawn):
        raise AssertionError("the source draws random numbers: its answers must depend on the columns alone")
    for name, value in before.items():
        if not torch.equal(source.state_dict()[name], value):
            raise AssertionError(f"the source's {name} has moved after it was asked for parameters")


def _gradients_add_up(source: nn.Module, whole: Made, width: int) -> None:
    """Those of chunks add to those of the whole; some weight has one, and none is NaN."""
    assert isinstance(source, Source)
    weights = {name: p for name, p in source.named_parameters() if p.requires_grad}
    if not weights:
        return
    directions = {
        name: torch.cos(torch.arange(v.numel(), dtype=v.dtype, device=v.device)).view_as(v) for name, v in whole.items()
    }

    def gradients(chunks: Chunks) -> list[Tensor]:
        total = next(iter(whole.values())).new_zeros(())
        for chunk in chunks:
            made = _made(source, chunk)
            total = total + sum((made[name] * directions[name][:, chunk]).sum() for name in made)
        if not total.requires_grad:
            raise AssertionError("no gradient flows from the parameters that the source makes to its weights")
        found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for w, g in zip(weights.values(), found, strict=True)]

    together = gradients([list(range(width))])
    if not any(bool(g.any()) for g in together):
        raise AssertionError("the gradients of all weights of the source are zero")
    for name, one, other in zip(weights, together, gradients(_chunkings(width)["one by one"]), strict=True):
        _close(other, one, f"the gradient of {name}, columns asked for one by one,")


def _circuits_equal_eager_ones(source: nn.Module, family: AbstractFamily, whole: Made, rows: int, seed: int) -> None:
    """A mixture with the source, and one with the parameters that it makes: the same answers and gradients."""
    regions, width = next(iter(whole.values())).shape[:2]
    dtype = next(iter(whole.values())).dtype
    scopes = [tuple(range(r * family.size, (r + 1) * family.size)) for r in range(regions)]
    eager = {n: Parameter(v.detach(), family.parameters[n].constraint) for n, v in whole.items()}
    weights = Parameter(torch.full((width,), 1.0 / width, dtype=torch.float64), simplex, trainable=False)
    fixed = Circuit(Input(family, scopes, eager).prod().sum(weights)).compile(dtype=dtype)
    made = Circuit(Input(family, scopes, Sourced(source, regions, width)).prod().sum(weights))
    with torch.no_grad():
        x = fixed.sample(rows, torch.Generator().manual_seed(seed))
        x[1::2, : max(1, x.shape[1] // 2)] = torch.nan
        want, mean = fixed.log_prob(x), fixed.given(x).mean()
    for memory in (None, 1):
        model = made.compile(dtype=dtype, memory=memory)
        with torch.no_grad():
            how = "one column at a time" if memory else "whole"
            _close(model.log_prob(x), want, f"log_prob of a circuit with the source, {how},")
            _close(model.given(x).mean(), mean, f"the mean of a circuit with the source, {how},")
        _same_gradients(model, source, family, whole, x, f"the gradient through a circuit with the source, {how},")


def _same_gradients(
    model: CompiledCircuit, source: nn.Module, family: AbstractFamily, whole: Made, x: Tensor, what: str
) -> None:
    """Σ log p(x) through the circuit, and by hand from the parameters that the source makes."""
    trained = {name: p for name, p in source.named_parameters() if p.requires_grad}
    if not trained:
        return
    assert isinstance(source, Source)
    (copied,) = (module for module in model.modules() if type(module) is type(source))  # a model trains one of its own
    own = dict(copied.named_parameters())
    through = torch.autograd.grad(model.log_prob(x).sum(), [own[name] for name in trained], allow_unused=True)
    regions, width = next(iter(whole.values())).shape[:2]
    values = x.view(len(x), regions, 1, family.size)
    units = family.log_prob(values, ~values.isnan(), _made(source, range(width)))  # (B, R, K)
    by_hand = torch.logsumexp(units.sum(1) - math.log(width), 1).sum()
    wanted = torch.autograd.grad(by_hand, list(trained.values()), allow_unused=True)
    for (name, weight), got, want in zip(trained.items(), through, wanted, strict=True):
        zero = torch.zeros_like(weight)
        _close(zero if got is None else got, zero if want is None else want, f"{what} for {name}")
