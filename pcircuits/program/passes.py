"""Passes that queries ask for: the values of roots with their one derivative, and states for what is read off a pass.

Scaled passes come first. Rows of data whose bound on the error is too large at a root are computed again in logarithms
and float64, they alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pcircuits.program.layers.layer import Flows, Gradients
from pcircuits.program.leaf_functions import LeafFunction, Mode
from pcircuits.program.numbers import LOG2E
from pcircuits.program.program import Program, Roots
from pcircuits.program.state import Maximise, Prepared, State
from pcircuits.program.tracing import plain

__all__ = ["evaluate", "passes"]

Keys = list[tuple[int, str]]


def evaluate(program: Program, leaf: LeafFunction, maximise: Sequence[Maximise] | None = None) -> tuple[Tensor, Tensor]:
    """Base-2 logs of the roots as number + exponent, both (B, C) in float64; autograd follows the numbers."""
    with program.full_precision():
        if not plain():
            return _in_logs(program, leaf, maximise)
        if isinstance(leaf, Mode) or maximise is not None:
            return _without_gradient(program, leaf, maximise, logs=True)
        if torch.is_grad_enabled() and _differentiable(program, leaf):
            return _with_gradient(program, leaf)
        return _without_gradient(program, leaf, None, logs=False)


def _differentiable(program: Program, leaf: LeafFunction) -> bool:
    return leaf.tensors()[0].requires_grad or program.trains()


def _in_logs(
    program: Program, leaf: LeafFunction, maximise: Sequence[Maximise] | None, rows: Any = slice(None)
) -> tuple[Tensor, Tensor]:
    """All rows at once in logarithms, made of operations that torch can differentiate, batch and trace."""
    state = program.up(leaf, program.prepare(logs=True), maximise, rows=rows)
    found = program.roots(state)
    return _of_possible(found.logs), found.exponent


def _of_possible(logs: Tensor) -> Tensor:
    """The same logs, of which those of impossible rows have no gradient."""
    return torch.where(logs == -torch.inf, -torch.inf, logs)


def _without_gradient(
    program: Program, leaf: LeafFunction, maximise: Sequence[Maximise] | None, logs: bool
) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        prepared = program.prepare(logs=logs, wide=leaf.wide and not logs)
        size = program.rows_together(keep=False) or leaf.rows
        size = max(1, size // 4) if logs and program.chunked else size
        if program._wide and not logs:
            size = max(size, program.memory // (64 * program.columns)) if _streams(program) else size
        found = []
        for cut in _slices(leaf.rows, size):
            part = leaf if size >= leaf.rows else leaf.take(cut)
            state = program.up(part, prepared, maximise)
            found.append(_settled(program, state, program.roots(state)))
        if len(found) == 1:
            return found[0]
        return torch.cat([n for n, _ in found]), torch.cat([e for _, e in found])


def _streams(program: Program) -> bool:
    """Whether one layer, which cuts rows itself, is all there is."""
    return len(program.layers) == len(program._wide)


def _settled(program: Program, state: State, found: Roots) -> tuple[Tensor, Tensor]:
    """The roots of a pass, with those of loose rows from logarithms."""
    if state.logs or not bool(found.loose.any()):
        return found.logs, found.exponent
    rows = found.loose.nonzero().squeeze(1)
    again = _again(program, state.leaf, rows)
    numbers, exponents = (torch.cat(parts) for parts in zip(*again, strict=True))
    return found.logs.index_copy(0, rows, numbers), found.exponent.index_copy(0, rows, exponents)


def _again(program: Program, leaf: LeafFunction, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    size = max(1, (program.rows_together(keep=True) or len(rows)) // 4)
    return [_in_logs(program, leaf.take(some), None) for some in torch.split(rows, size)]


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, max(1, size)))


def _with_gradient(program: Program, leaf: LeafFunction) -> tuple[Tensor, Tensor]:
    prepared = program.prepare(wide=leaf.wide)
    found = {layer.index: prepared.of(layer) for layer in program.ordered()}
    keys = [(index, name) for index, tensors in found.items() for name in tensors]
    tensors = [found[index][name] for index, name in keys]
    run = _Run(program, leaf, prepared, keys)
    logs, exponent, loose = _Evaluated.apply(run, leaf.tensors()[0], *tensors)
    if bool(loose.any()):
        rows = loose.nonzero().squeeze(1)
        numbers, exponents = (torch.cat(parts) for parts in zip(*_again(program, leaf, rows), strict=True))
        logs = logs.index_put((rows,), numbers)
        exponent = exponent.index_copy(0, rows, exponents)
    return _of_possible(logs), exponent


@dataclass
class _Run:
    """A pass that gradients flow through: `keys` say which layer's parameter each tensor is."""

    program: Program
    leaf: LeafFunction
    prepared: Prepared
    keys: Keys

    def of(self, tensors: Sequence[Tensor]) -> Prepared:
        """The parameters as constants."""
        by_layer: dict[int, dict[str, Tensor]] = {layer.index: {} for layer in self.program.ordered()}
        for (index, name), tensor in zip(self.keys, tensors, strict=True):
            by_layer[index][name] = tensor.detach()
        return self.prepared.replaced(by_layer)

    def cuts(self) -> tuple[list[slice], bool]:
        """Slices of rows that are taken together, and whether what they compute is kept for the way back."""
        program, rows = self.program, self.leaf.rows
        size = min(rows, program.rows_together(keep=True, spend=True) or rows) or 1
        pieces = -(-rows // size)
        size = min(size, -(-rows // max(1, 16 * pieces)) * 16)  # of one size, which suits matrix products
        return list(_slices(rows, size)), size >= rows or program.keeps(rows, size)


class _OfParameters(Flows):
    """Gradients of parameters, those of leaf units among them, and of data."""

    hears_leaves = False


class _Evaluated(torch.autograd.Function):
    """The roots of a scaled pass. Its derivative is the reverse pass: a flow is a gradient with respect to a log."""

    @staticmethod
    def forward(ctx: Any, run: _Run, x: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        program, prepared = run.program, run.of(tensors)
        cuts, kept = run.cuts()
        states, found = [], []
        for cut in cuts:
            leaf = run.leaf if len(cuts) == 1 else run.leaf.take(cut)
            state = program.up(leaf, prepared, None, keep=kept, rows=cut)
            found.append(program.roots(state))
            if kept:
                states.append(state)
        ctx.run, ctx.states, ctx.prepared = run, states, prepared
        ctx.save_for_backward(x, *tensors)
        logs, exponent, loose = (torch.cat([getattr(f, n) for f in found]) for n in ("logs", "exponent", "loose"))
        ctx.mark_non_differentiable(exponent, loose)
        ctx.set_materialize_grads(False)
        return logs, exponent, loose

    @staticmethod
    def backward(ctx: Any, flow: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        run = ctx.run
        x, *tensors = ctx.saved_tensors
        if flow is None:
            return (None,) * (2 + len(tensors))
        if torch.is_grad_enabled():
            return (None, *_differentiable_gradients(run, x, tensors, flow))
        wanted: dict[int, frozenset[str]] = {}
        for (index, name), needs in zip(run.keys, ctx.needs_input_grad[2:], strict=True):
            if needs:
                wanted[index] = wanted.get(index, frozenset()) | {name}
        to = _OfParameters()
        data = x.detach().requires_grad_() if ctx.needs_input_grad[1] else None
        to.gradients = Gradients(wanted, data)
        cuts, _ = run.cuts()
        states = ctx.states or [None] * len(cuts)
        ctx.states = None
        for number, cut in enumerate(cuts):
            state, states[number] = states[number], None
            if state is None:
                leaf = run.leaf if len(cuts) == 1 else run.leaf.take(cut)
                state = run.program.up(leaf, ctx.prepared, None, keep=True, rows=cut)
            run.program.down(state, flow[cut] * LOG2E, to, spend=True, last=cut is cuts[-1])
        gradients = to.gradients.all()
        of_x = to.gradients.of_x if data is None or to.gradients.of_x is not None else torch.zeros_like(x)
        return (None, of_x, *(_like(gradients.get(key), t) for key, t in zip(run.keys, tensors, strict=True)))


def _differentiable_gradients(
    run: _Run, x: Tensor, tensors: Sequence[Tensor], flow: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again: those of a pass in logarithms, made of operations of torch."""
    program = run.program
    prepared = Prepared(True, False, program.memory)
    by_layer: dict[int, dict[str, Tensor]] = {layer.index: {} for layer in program.ordered()}
    for (index, name), tensor in zip(run.keys, tensors, strict=True):
        by_layer[index][name] = tensor
    prepared = prepared.replaced({layer.index: layer.in_logs_of(by_layer[layer.index]) for layer in program.ordered()})
    prepared.pure = True
    found = program.roots(program.up(run.leaf.about(x), prepared))
    inputs = [t for t in (x, *tensors) if t.requires_grad]
    made = torch.autograd.grad(found.logs, inputs, flow.to(torch.float64), create_graph=True, allow_unused=True)
    given = iter(made)
    return tuple(next(given) if t.requires_grad else None for t in (x, *tensors))


def _like(gradient: Tensor | None, tensor: Tensor) -> Tensor | None:
    return None if gradient is None else gradient.to(tensor.dtype)


def passes(program: Program, leaf: LeafFunction, keep: bool = True) -> Iterator[tuple[State, Roots]]:
    """Upward passes over pieces of the rows, without gradients; then those over rows that need logarithms.

    `state.rows` says which rows a pass is about: a later pass takes the place of an earlier one. Where `loose` is True,
    a row comes again.
    """
    size = program.rows_together(keep) or leaf.rows
    for cut in _slices(leaf.rows, size):
        part = leaf if size >= leaf.rows else leaf.take(cut)
        state, found = _pass(program, part, False, keep, cut)
        yield state, found
        if bool(found.loose.any()):
            rows = found.loose.nonzero().squeeze(1)
            for some in torch.split(rows, max(1, size // 4)):
                yield _pass(program, part.take(some), True, keep, some + cut.start)


def _pass(program: Program, leaf: LeafFunction, logs: bool, keep: bool, rows: Any) -> tuple[State, Roots]:
    with torch.no_grad(), program.full_precision():  # never held while a generator waits
        state = program.up(leaf, program.prepare(logs=logs), None, keep, rows)
        return state, program.roots(state)
