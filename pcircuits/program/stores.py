"""Stores: the trainable parameters of a program, one tensor for each parameter of a layer, ties in one place."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.computed import SourcedWeights
from pcircuits.errors import ParameterError
from pcircuits.parameters import Constraint, Parameter, Sourced
from pcircuits.program.plan import Index, Owned
from pcircuits.program.tracing import plain

__all__ = ["Derived", "Form", "Made", "Store", "Stores", "View"]

T = TypeVar("T")
CONVERTED = 1 << 16
"""How many entries are converted at a time, so that conversion needs little memory of its own."""

FEW = 64
"""Up to so many parameters that share a store are converted one by one."""


class Derived:
    """What is made of the parameters for one pass, each thing once."""

    def __init__(self) -> None:
        self._made: dict[Hashable, object] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result of the first call with this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]


class Store(nn.Module):
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

    def values(self) -> Tensor:
        """The constrained values; probabilities in float64, since 1 - p is what leaves may compute with."""
        raw = self.unconstrained()
        return self.constraint.constrain(raw.double() if self.constraint.name == "unit_interval" else raw)

    def wide_values(self) -> Tensor:
        """The constrained values in float64."""
        return self.constraint.constrain(self.unconstrained().double())

    def logs(self) -> Tensor:
        """The logs of the values; -inf is a structural zero."""
        if self.edges is None:
            return self.constraint.log_inside(self.unconstrained())
        return self.constraint.log(self.unconstrained())

    def wide_logs(self) -> Tensor:
        """The logs of the values in float64."""
        return self.constraint.log(self.unconstrained().double())

    def unconstrained(self) -> Tensor:
        """The unconstrained numbers, infinite at structural zeros and ones."""
        return self.raw if self.edges is None else torch.where(self.edges != 0, self.edges, self.raw)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Nothing: `Stores` writes the symbolic parameters."""

    def _load_from_state_dict(self, *args: Any) -> None:
        """Nothing: `Stores` reads the symbolic parameters."""


class Made(Store):
    """Weights that a source makes: the unconstrained numbers are the logs that it returns now."""

    def __init__(self, weights: SourcedWeights, source: nn.Module) -> None:
        nn.Module.__init__(self)
        self.constraint = weights.constraint
        self.register_buffer("edges", None)
        self._weights = weights
        self._source = (source,)  # in a tuple, so that its state is not counted here again

    @property
    def raw(self) -> Tensor:  # type: ignore[override]
        """The numbers that the source makes now, which are not trained here."""
        return self.unconstrained().detach()

    def unconstrained(self) -> Tensor:
        logs = self._weights.logs_from(self._source[0])
        if plain() and bool(logs.isnan().any()):
            raise ParameterError(
                f"{self._weights.name} are negative or NaN: a source returns `weights` that are >= 0, or `log_weights`"
            )
        return logs.reshape(-1, *self._weights.shape[-self.constraint.event_ndim or len(self._weights.shape) :])


Form = Callable[[Store], Tensor]


class View(nn.Module):
    """Rows of stored parameters as a tensor (U, *block): by a slice where they lie together, by an index where not.

    Row r of the layer is row `place[r]` of it; None where U is the number of rows, and they are in order.
    """

    index: Tensor | None
    place: Tensor | None

    def __init__(
        self, stores: Sequence[Store], entries: Index, block: tuple[int, ...], place: Tensor | None, device: Any
    ) -> None:
        super().__init__()
        self._stores = tuple(stores)  # in a tuple, so that their state is not counted here again
        first = int(entries[0])
        straight = bool((np.diff(entries) == 1).all()) if len(entries) > 1 else True
        self._slice = (first, first + len(entries)) if straight else None
        self.block = block
        self.register_buffer("index", None if straight else torch.as_tensor(entries, device=device), persistent=False)
        self.register_buffer("place", place, persistent=False)

    @property
    def constraint(self) -> Constraint:
        return self._stores[0].constraint

    @property
    def stores(self) -> tuple[Store, ...]:
        """Where the numbers are kept."""
        return self._stores

    def back(self, rows: Tensor) -> Iterator[tuple[Store, Tensor]]:
        """What is said of the parameters, (U, *block), added up for each entry of each store, (n, *event)."""
        sizes = [len(store.raw) for store in self._stores]
        flat = rows.reshape(-1, *self._stores[0].raw.shape[1:])
        if self.index is not None:
            flat = flat.new_zeros((sum(sizes), *flat.shape[1:])).index_add_(0, self.index, flat)
        elif self._slice is not None and self._slice != (0, sum(sizes)):
            whole = flat.new_zeros((sum(sizes), *flat.shape[1:]))
            whole[slice(*self._slice)] = flat
            flat = whole
        yield from zip(self._stores, flat.split(sizes), strict=True)

    @property
    def structural(self) -> bool:
        """Whether some of the numbers are zeros that stay."""
        return any(store.edges is not None for store in self._stores)

    def of(self, derived: Derived, form: Form) -> Tensor:
        """The parameters in a form, (U, *block)."""
        return derived.once((self, form), lambda: self._of(derived, form))

    def _of(self, derived: Derived, form: Form) -> Tensor:
        parts = [derived.once((store, form), lambda s=store: form(s)) for store in self._stores]  # type: ignore[misc]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.index is not None:
            whole = whole.index_select(0, self.index)
        elif self._slice is not None and self._slice != (0, len(whole)):
            whole = whole[slice(*self._slice)]
        return whole.reshape(-1, *self.block)


class Stores(nn.Module):
    """All parameters of a program, kept by layer and known to files and users by the circuit's own parameters.

    `parameters` are those with the names `names`, followed by weights that sources make.
    """

    def __init__(self, parameters: Sequence[Parameter], names: Sequence[str], dtype: torch.dtype, device: Any) -> None:
        super().__init__()
        self.stores = nn.ModuleDict()
        self._dtype, self._device = dtype, device
        self._symbols, self._names = list(parameters), list(names)
        self._first = np.cumsum([0, *(_entries(p) for p in parameters)])
        total = int(self._first[-1])
        self._store = np.full(total, -1, np.int64)
        self._slot = np.full(total, -1, np.int64)

    def view(self, name: str, rows: Owned, source_of: Callable[[Sourced], nn.Module]) -> View:
        """The rows of a layer's parameter; those that no layer before had are stored under this name.

        `source_of` has the modules that make weights.
        """
        owner, row = rows.owner.ravel(), rows.row.ravel()
        parameter = self._symbols[int(owner[0])]
        size = math.prod(rows.block) // (parameter.shape[-1] if parameter.constraint.event_ndim else 1)
        begin = self._first[owner] + row * size
        distinct, first_at, place = np.unique(begin, return_index=True, return_inverse=True)
        order = np.argsort(first_at, kind="stable")
        distinct, rank = distinct[order], np.argsort(order, kind="stable")
        place = rank[place.ravel()]
        ids = (distinct[:, None] + np.arange(size)).ravel()
        for number in np.unique(owner).tolist():
            self._make(number, source_of)
        new = ids[self._store[ids] < 0]
        if len(new):
            new = new[np.sort(np.unique(new, return_index=True)[1])]
            self._store[new], self._slot[new] = len(self.stores), np.arange(len(new))
            self.stores[name] = Store(parameter.constraint, self._raw(new), parameter.trainable)
        homes = np.unique(self._store[ids])
        made = [store for store in self.stores.values() if isinstance(store, Store)]
        stores = [made[h] for h in homes]
        sizes = np.bincount(self._store[self._store >= 0], minlength=len(made))
        starts = np.cumsum([0, *sizes[homes].tolist()])
        entries = starts[np.searchsorted(homes, self._store[ids])] + self._slot[ids]
        straight = len(place) == len(distinct) and (np.diff(place) == 1).all()
        index = None if straight else torch.as_tensor(place, device=self._device)
        return View(stores, entries, rows.block, index, self._device)

    def _make(self, number: int, source_of: Callable[[Sourced], nn.Module]) -> None:
        """Give weights that a source makes a place, where they have none yet."""
        weights, span = self._symbols[number], slice(int(self._first[number]), int(self._first[number + 1]))
        if isinstance(weights, SourcedWeights) and self._store[span.start] < 0:
            self._store[span], self._slot[span] = len(self.stores), np.arange(span.stop - span.start)
            self.stores[f"made{number}"] = Made(weights, source_of(weights.sourced))

    def kept(self) -> list[Store]:
        """The stores of parameters that no source makes."""
        return [store for store in self.stores.values() if isinstance(store, Store) and not isinstance(store, Made)]

    def _raw(self, ids: Index) -> Tensor:
        """The unconstrained numbers of entries."""
        owner = np.searchsorted(self._first, ids, side="right") - 1
        distinct, local = np.unique(owner, return_inverse=True)
        first = self._symbols[int(distinct[0])]
        if len(distinct) <= FEW:
            raw = torch.empty((len(ids), *_flat(first).shape[1:]), dtype=self._dtype, device=self._device)
            for number, which in enumerate(distinct.tolist()):
                parameter, here = self._symbols[which], np.flatnonzero(local == number)
                flat, rows = _flat(parameter), ids[here] - self._first[which]
                for start in range(0, len(here), CONVERTED):
                    some = slice(start, start + CONVERTED)
                    index = torch.as_tensor(rows[some], device=flat.device)
                    raw[torch.as_tensor(here[some], device=raw.device)] = _unconstrained(parameter, flat[index]).to(raw)
            return raw
        parameters = [self._symbols[n] for n in distinct.tolist()]
        if any(p.log_value is not None for p in parameters):
            joined = torch.cat([_unconstrained(p, _flat(p)) for p in parameters])
        else:
            joined = first.constraint.unconstrain(torch.cat([_flat(p).double() for p in parameters]))
        starts = np.cumsum([0, *(_entries(p) for p in parameters)])
        place = starts[local.ravel()] + ids - self._first[owner]
        return joined[torch.as_tensor(place, device=joined.device)].to(device=self._device, dtype=self._dtype)

    def _now(self, number: int) -> tuple[Tensor, Tensor]:
        """The unconstrained numbers of a parameter as they are now, (n, *event), and as they were given, in float64.

        Where the root does not need an entry it is as it was given.
        """
        parameter = self._symbols[number]
        given = _unconstrained(parameter, _flat(parameter)).cpu()
        now = given.to(self.dtype_now).clone()
        span = slice(int(self._first[number]), int(self._first[number + 1]))
        store, slot = self._store[span], self._slot[span]
        made = list(self.stores.values())
        for home in np.unique(store[store >= 0]).tolist():
            here = store == home
            held = made[home]
            assert isinstance(held, Store)
            raw = held.unconstrained().detach()
            now[torch.as_tensor(here)] = raw[torch.as_tensor(slot[here], device=raw.device)].cpu().to(now.dtype)
        return now, given

    def arranged(self, arrays: Mapping[Store, Tensor]) -> dict[str, Tensor]:
        """What there is for each number of some stores, (n, ...), in the shape and under the name of each parameter.

        It is 0 for numbers that the root does not need; parameters that have none in these stores are left out.
        """
        made = list(self.stores.values())
        found = {}
        for number, (name, parameter) in enumerate(zip(self._names, self._symbols, strict=False)):
            span = slice(int(self._first[number]), int(self._first[number + 1]))
            store, slot = self._store[span], self._slot[span]
            whole: Tensor | None = None
            for home in np.unique(store[store >= 0]).tolist():
                array = arrays.get(made[home])  # type: ignore[call-overload]
                if array is not None:
                    here = store == home
                    whole = array.new_zeros((len(store), *array.shape[1:])) if whole is None else whole
                    whole[torch.as_tensor(here, device=array.device)] = array[
                        torch.as_tensor(slot[here], device=array.device)
                    ]
            if whole is not None:
                events = parameter.constraint.event_ndim
                found[name] = whole.reshape(*parameter.shape[: len(parameter.shape) - events], *whole.shape[1:])
        return found

    def layout(self) -> str:
        """A digest of where each number of the circuit's parameters is stored."""
        return hashlib.sha256(self._store.tobytes() + self._slot.tobytes()).hexdigest()[:16]

    @property
    def dtype_now(self) -> torch.dtype:
        """The dtype that the parameters have now."""
        kept = self.kept()
        return kept[0].raw.dtype if kept else self._dtype

    def trained(self) -> Mapping[int, Parameter]:
        """For each symbolic parameter (by id), itself if it has not been trained, else one with the value it has now."""
        found: dict[int, Parameter] = {}
        for number, parameter in enumerate(self._symbols[: len(self._names)]):
            now, given = self._now(number)
            if torch.equal(now, given.to(now.dtype)):
                found[id(parameter)] = parameter
                continue
            if now.isnan().any():
                raise ParameterError(f"{parameter.name} has become NaN in training: lower the learning rate")
            logarithm = parameter.log_value is not None
            wide = now.to(torch.float64)
            value = parameter.constraint.log(wide) if logarithm else parameter.constraint.constrain(wide)
            idle = torch.as_tensor(self._store[self._first[number] : self._first[number + 1]] < 0)
            value[idle] = _flat(parameter).cpu().double()[idle]
            make = Parameter.from_log if logarithm else Parameter
            made = make(value.reshape(parameter.shape), parameter.constraint, parameter.trainable, parameter.name)
            found[id(parameter)] = made
        return found

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """The circuit's parameters in its order, as unconstrained numbers: the same whatever the rewrites."""
        for number, (name, parameter) in enumerate(zip(self._names, self._symbols, strict=False)):
            destination[prefix + name] = self._now(number)[0].reshape(parameter.shape)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        known = {prefix + name for name in self._names}
        missing_keys.extend(key for key in known if key not in state_dict)
        unexpected_keys.extend(key for key in state_dict if key.startswith(prefix) and key not in known)
        for number, (name, parameter) in enumerate(zip(self._names, self._symbols, strict=False)):
            given = state_dict.get(prefix + name)
            if not isinstance(given, Tensor):
                continue
            if given.shape != parameter.shape:
                error_msgs.append(
                    f"{prefix + name} has shape {tuple(given.shape)}, and the circuit's parameter {tuple(parameter.shape)}: "
                    "these are weights of another circuit"
                )
                continue
            flat = given.detach().reshape(_flat(parameter).shape)
            if not torch.equal(flat.isinf().cpu(), self._now(number)[0].isinf()):
                error_msgs.append(f"{prefix + name} has its zeros elsewhere: these are weights of another circuit")
                continue
            self._put(number, flat)

    def _put(self, number: int, flat: Tensor) -> None:
        """Let a parameter have these unconstrained numbers, (n, *event)."""
        span = slice(int(self._first[number]), int(self._first[number + 1]))
        store, slot = self._store[span], self._slot[span]
        made = list(self.stores.values())
        with torch.no_grad():
            for home in np.unique(store[store >= 0]).tolist():
                here = store == home
                raw = made[home].raw
                assert isinstance(raw, Tensor)
                values = flat[torch.as_tensor(here, device=flat.device)].to(raw)
                raw[torch.as_tensor(slot[here], device=raw.device)] = values.masked_fill(values.isinf(), 0.0)


def _flat(parameter: Parameter) -> Tensor:
    """The value, or the logarithm that the parameter was made of, as (n, *event)."""
    events = parameter.constraint.event_ndim
    given = parameter.value if parameter.log_value is None else parameter.log_value
    return given.reshape(-1, *parameter.shape[len(parameter.shape) - events :])


def _entries(parameter: Parameter) -> int:
    size = parameter.shape.numel()
    return size // parameter.shape[-1] if parameter.constraint.event_ndim else size


def _unconstrained(parameter: Parameter, flat: Tensor) -> Tensor:
    """Entries of a parameter as `_flat` gives them, as unconstrained numbers in float64: logarithms are some already."""
    return flat.double() if parameter.log_value is not None else parameter.constraint.unconstrain(flat.double())
