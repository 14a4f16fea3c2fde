"""Trainable storage: all parameters of one constraint in one tensor, tied ones in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.errors import ParameterError
from pcircuits.parameters import Constraint, Parameter, simplex, unit_interval
from pcircuits.program.held import Held
from pcircuits.program.operations import Index, ParameterRows, pool_key

__all__ = ["ParameterView", "Pools"]


TOGETHER = 4096
"""Parameters of up to so many numbers are converted together, as many of them at a time."""

_SMALLEST = 1e-26
"""A probability that float32 holds with all its digits, and whose products with others it holds, too."""


class Pool(nn.Module):
    """Parameters of one constraint: entries (n,), or (n, S) vectors on a simplex, as unconstrained numbers.

    Structural zeros (and ones) are infinite as unconstrained numbers. They are kept apart in `edges`, which is 0
    elsewhere, so that no optimiser ever computes with them.
    """

    raw: Tensor
    edges: Tensor | None

    def __init__(self, constraint: Constraint, raw: Tensor, trainable: bool) -> None:
        super().__init__()
        self.constraint = constraint
        infinite = raw.isinf()
        self.register_buffer("edges", torch.where(infinite, raw, 0.0) if bool(infinite.any()) else None)
        raw = raw.masked_fill(infinite, 0.0)
        if trainable:
            self.raw = nn.Parameter(raw)
        else:
            self.register_buffer("raw", raw)
        self._cuts = {0, len(raw)}
        self._seen: tuple[object, Tensor] | None = None
        self._number = 0

    def values(self) -> Tensor:
        """The constrained values, (n,) or (n, S).

        Probabilities are float64 where 1 - p, or a p that float32 cannot hold, is what leaves may compute with.
        """
        raw = self.unconstrained()
        if self.constraint is unit_interval:
            return self.constraint.constrain(raw.double())
        if self.constraint is simplex and raw.dtype != torch.float64:
            values = torch.softmax(raw, -1) if self.edges is None else None
            if values is not None and bool(values.detach().amin() > _SMALLEST):
                return values
            return self.constraint.constrain(raw.double())
        return self.constraint.constrain(raw)

    def logs(self) -> Tensor:
        """The logs of the values; -inf is a structural zero."""
        if self.edges is None:
            return self.constraint.log_inside(self.raw)
        return self.constraint.log(self.unconstrained())

    def unconstrained(self) -> Tensor:
        """The unconstrained numbers, infinite at structural zeros and ones."""
        return self.raw if self.edges is None else torch.where(self.edges != 0, self.edges, self.raw)

    def cut(self, start: int, end: int) -> None:
        """Say that entries start..end-1 will be asked for together."""
        self._cuts |= {start, end}

    def between(self, held: Held, form: Form, start: int, end: int) -> Tensor:
        """Entries start..end-1 in a form: pieces of one split, so that all of them have one backward."""
        place = held.once((self, "cuts"), lambda: {cut: number for number, cut in enumerate(sorted(self._cuts))})
        pieces = held.once((self, "pieces", form), lambda: self._pieces(held, form))
        first, last = place[start], place[end]
        return pieces[first] if last == first + 1 else torch.cat(pieces[first:last])

    def whole(self, held: Held, form: Form) -> Tensor:
        """All entries in a form."""
        return held.once((self, "whole", form), lambda: form(self))

    def _pieces(self, held: Held, form: Form) -> tuple[Tensor, ...]:
        cuts = sorted(self._cuts)
        return torch.split(self.whole(held, form), np.diff(cuts).tolist())

    def version(self) -> int:
        """A number that changes whenever the values may have changed.

        The storage that was seen last is held on to: while it is, no other tensor can come to its address.
        """
        raw = self.raw
        if raw.is_inference():  # such tensors do not say when they change
            self._number += 1
            return self._number
        state = (raw.data_ptr(), raw._version, raw.dtype, raw.device)
        if self._seen is None or self._seen[0] != state:
            self._seen = (state, raw.detach())
            self._number += 1
        return self._number

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._seen = None
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_seen": None}


Form = Callable[[Pool], Tensor]


class ParameterView(nn.Module):
    """Some entries of a pool as a tensor (R, *block), by a slice where they lie together, by an index where not."""

    index: Tensor | None

    def __init__(self, pool: Pool, start: int, index: Tensor | None, shape: tuple[int, ...], count: int) -> None:
        super().__init__()
        self.count = count
        self._pool = (pool,)  # in a tuple, so that the pool's state is not counted here again
        self.start, self.shape = start, shape
        entries = int(np.prod(shape)) // (pool.raw.shape[1] if pool.raw.ndim == 2 else 1)
        self.end = start + entries
        self.register_buffer("index", index, persistent=False)
        if index is None:
            pool.cut(self.start, self.end)

    def values(self, held: Held) -> Tensor:
        """The constrained values, (R, *block)."""
        return self._in(held, Pool.values)

    def logs(self, held: Held) -> Tensor:
        """Their logs, (R, *block)."""
        return self._in(held, Pool.logs)

    def _in(self, held: Held, form: Form) -> Tensor:
        return held.once((self, form), lambda: self._shaped(held, form))

    def _shaped(self, held: Held, form: Form) -> Tensor:
        pool = self._pool[0]
        if self.index is None:
            chosen = pool.between(held, form, self.start, self.end)
        else:
            chosen = pool.whole(held, form).index_select(0, self.index)
        return chosen.reshape(self.shape).expand(self.count, *self.shape[1:])


class Pools(nn.Module):
    """All parameters of a program. Slots are dealt out in the order in which steps ask, so that most views are slices."""

    def __init__(self, dtype: torch.dtype, device: torch.device | None) -> None:
        super().__init__()
        self.pools = nn.ModuleDict()
        self._dtype, self._device = dtype, device
        self._slots: dict[int, tuple[Parameter, str, Index]] = {}
        self._next: dict[str, int] = {}

    def deal(self, requests: Iterable[ParameterRows]) -> None:
        """Deal out the slots of all parameters, in the order of the requests, and store them."""
        owners: dict[str, list[Parameter]] = {}
        for request in requests:
            for parameter, row in zip(request.owners, request.rows.tolist(), strict=True):
                if id(parameter) not in self._slots:
                    key = pool_key(parameter)
                    self._slots[id(parameter)] = (parameter, key, np.full(_entries(parameter), -1, np.int64))
                    owners.setdefault(key, []).append(parameter)
                _, key, slots = self._slots[id(parameter)]
                size = _block_entries(parameter, request.block)
                block = slots[row * size : (row + 1) * size]
                if block[0] < 0:
                    begin = self._next.get(key, 0)
                    block[:] = np.arange(begin, begin + size)
                    self._next[key] = begin + size
        for key, parameters in owners.items():
            self.pools[key] = self._pool(key, parameters)

    def _pool(self, key: str, parameters: list[Parameter]) -> Pool:
        first = parameters[0]
        events = first.constraint.event_ndim
        tail = tuple(first.shape[first.value.ndim - events :])
        raw = torch.empty((self._next[key], *tail), dtype=self._dtype, device=self._device)
        small = [p for p in parameters if p.value.numel() <= TOGETHER]
        for begin in range(
            0, len(small), TOGETHER
        ):  # one conversion for many: scalar circuits have some for every unit
            some = small[begin : begin + TOGETHER]
            values = torch.cat([p.value.reshape(-1, *tail).to(torch.float64) for p in some])
            self._store(raw, first.constraint, values, np.concatenate([self._slots[id(p)][2] for p in some]))
        for parameter in parameters:
            if parameter.value.numel() > TOGETHER:
                values, slots = parameter.value.reshape(-1, *tail), self._slots[id(parameter)][2]
                for start in range(0, len(slots), 1 << 22):  # so that conversion needs little memory of its own
                    part = slice(start, start + (1 << 22))
                    self._store(raw, first.constraint, values[part].to(torch.float64), slots[part])
        return Pool(first.constraint, raw, first.trainable)

    @staticmethod
    def _store(raw: Tensor, constraint: Constraint, values: Tensor, slots: Index) -> None:
        """Put values into their slots, but for entries that the root does not need."""
        if (slots < 0).any():
            values, slots = values[torch.as_tensor(slots >= 0, device=values.device)], slots[slots >= 0]
        converted = constraint.unconstrain(values).to(raw)
        if len(slots) and _consecutive(slots):
            raw[int(slots[0]) : int(slots[-1]) + 1] = converted
        else:
            raw[torch.as_tensor(slots, device=raw.device)] = converted

    def all(self) -> list[Pool]:
        """The pools, one for each constraint."""
        return [pool for pool in self.pools.values() if isinstance(pool, Pool)]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Slots are found by the identities that parameters have now."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._slots = {id(found[0]): found for found in self._slots.values()}

    def view(self, request: ParameterRows) -> ParameterView:
        """The tensor (R, *block) of a request that has been dealt."""
        pieces = []
        for parameter, row in zip(request.owners, request.rows.tolist(), strict=True):
            _, key, slots = self._slots[id(parameter)]
            size = _block_entries(parameter, request.block)
            pieces.append((int(slots[row * size]), size, slots, row))
        starts = np.array([p[0] for p in pieces])
        size = pieces[0][1]
        pool = self.pools[key]
        assert isinstance(pool, Pool)
        shape = (len(pieces), *request.block)
        contiguous_blocks = all(_consecutive(s[r * n : (r + 1) * n]) for _, n, s, r in pieces)
        if (starts == starts[0]).all() and contiguous_blocks:  # one row for all of them
            return ParameterView(pool, int(starts[0]), None, (1, *request.block), len(pieces))
        if contiguous_blocks and (np.diff(starts) == size).all():
            return ParameterView(pool, int(starts[0]), None, shape, len(pieces))
        index = np.concatenate([s[r * n : (r + 1) * n] for _, n, s, r in pieces])
        return ParameterView(pool, 0, torch.as_tensor(index, device=self._device), shape, len(pieces))

    def trained(self) -> Mapping[int, Parameter]:
        """For each symbolic parameter (by id), itself if it has not been trained, else one with the value it has now."""
        now: dict[int, Parameter] = {}
        for parameter, key, slots in self._slots.values():
            pool = self.pools[key]
            assert isinstance(pool, Pool)
            events = parameter.constraint.event_ndim
            tail = tuple(parameter.shape[parameter.value.ndim - events :])
            slot = torch.as_tensor(slots, device=pool.raw.device)
            raw = pool.unconstrained().detach()[slot].cpu()
            given = parameter.constraint.unconstrain(parameter.value.reshape(-1, *tail).to(torch.float64).cpu())
            raw[slot.cpu() < 0] = given[slot.cpu() < 0].to(raw.dtype)  # what the root does not need stays as it is
            if torch.equal(raw, given.to(raw.dtype)):
                now[id(parameter)] = parameter
                continue
            if raw.isnan().any():
                raise ParameterError(f"{parameter.name} has become NaN in training: lower the learning rate")
            value = parameter.constraint.constrain(raw.to(torch.float64))
            unused = slot.cpu() < 0
            value[unused] = parameter.value.reshape(-1, *tail).to("cpu", torch.float64)[unused]
            value = value.reshape(parameter.shape)
            now[id(parameter)] = Parameter(value, parameter.constraint, parameter.trainable, parameter.name)
        return now


def _entries(parameter: Parameter) -> int:
    size = parameter.value.numel()
    return size // parameter.shape[-1] if parameter.constraint.event_ndim else size


def _block_entries(parameter: Parameter, block: tuple[int, ...]) -> int:
    size = math.prod(block)
    return size // parameter.shape[-1] if parameter.constraint.event_ndim else size


def _consecutive(slots: Index) -> bool:
    """Whether slots follow each other one by one (the ends alone do not tell: what is between may be permuted)."""
    return len(slots) == 1 or bool((np.diff(slots) == 1).all())
