"""Parameters: values with a constraint, kept exactly as given until they are trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits import rounding
from pcircuits.errors import ParameterError
from pcircuits.values import as_values

__all__ = [
    "CONSTRAINTS",
    "Constraint",
    "Parameter",
    "Source",
    "Sourced",
    "as_numbers",
    "as_parameter",
    "fixed",
    "nonnegative",
    "positive",
    "real",
    "simplex",
    "unit_interval",
]


class Constraint(ABC):
    """A set of admissible values, and a smooth map onto it from unconstrained numbers."""

    name: ClassVar[str]
    wants: ClassVar[str]
    """The set in words, for errors: "must be > 0"."""
    event_ndim: ClassVar[int] = 0
    """1 where the constraint binds a vector (the last axis), 0 where it binds each number by itself."""

    @abstractmethod
    def admits(self, value: Tensor) -> Tensor:
        """A mask of the admissible numbers (vectors, for a simplex)."""

    def admits_number(self, value: float) -> bool:
        """`admits` of one number: circuits built unit by unit have one for each unit."""
        return bool(self.admits(torch.tensor(value, dtype=torch.float64)))

    @abstractmethod
    def unconstrain(self, value: Tensor) -> Tensor:
        """Admissible to unconstrained."""

    @abstractmethod
    def constrain(self, raw: Tensor) -> Tensor:
        """Unconstrained to admissible; the inverse of `unconstrain`."""

    def settled(self, value: Tensor) -> Tensor:
        """An admissible value as it is kept: the same, but for what rounding in print took from it."""
        return value

    def log(self, raw: Tensor) -> Tensor:
        """log constrain(raw), without leaving log space where the map is an exponential; -inf is a structural zero."""
        return self.constrain(raw).log()

    def log_inside(self, raw: Tensor) -> Tensor:
        """`log` of finite numbers, among which nothing is structural."""
        return self.log(raw)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        """By name, since code tells the library's constraints apart by identity."""
        return (_named, (self.name,)) if CONSTRAINTS.get(self.name) is self else super().__reduce__()


def _named(name: str) -> Constraint:
    return CONSTRAINTS[name]


class _Real(Constraint):
    name, wants = "real", "must be finite"

    def admits(self, value: Tensor) -> Tensor:
        return torch.isfinite(value)

    def admits_number(self, value: float) -> bool:
        return math.isfinite(value)

    def unconstrain(self, value: Tensor) -> Tensor:
        return value

    def constrain(self, raw: Tensor) -> Tensor:
        return raw


class _Fixed(_Real):
    """A number that is never trained (the state of an indicator)."""

    name = "fixed"


class _Positive(Constraint):
    name, wants = "positive", "must be finite and > 0"

    def admits(self, value: Tensor) -> Tensor:
        return torch.isfinite(value) & (value > 0)

    def admits_number(self, value: float) -> bool:
        return 0 < value < math.inf

    def unconstrain(self, value: Tensor) -> Tensor:
        return value.log()

    def constrain(self, raw: Tensor) -> Tensor:
        return raw.exp()

    def log(self, raw: Tensor) -> Tensor:
        return raw


class _NonNegative(Constraint):
    """Weights that need not sum to one. Zeros are structural: log 0 = -inf stays there, with zero gradient."""

    name, wants = "nonnegative", "must be finite and >= 0"

    def admits(self, value: Tensor) -> Tensor:
        return torch.isfinite(value) & (value >= 0)

    def admits_number(self, value: float) -> bool:
        return 0 <= value < math.inf

    def unconstrain(self, value: Tensor) -> Tensor:
        return value.log()

    def constrain(self, raw: Tensor) -> Tensor:
        return self.log(raw).exp()

    def log(self, raw: Tensor) -> Tensor:
        zero = raw == -torch.inf
        return torch.where(zero, -torch.inf, torch.where(zero, 0.0, raw))

    def log_inside(self, raw: Tensor) -> Tensor:
        return raw


class _UnitInterval(Constraint):
    """A probability. 0 and 1 are structural: logit ±inf stays there, with zero gradient.

    A trained probability p is known to the rounding of its dtype, so that 1 - p has a relative error of about eps / (1 - p):
    1e-7 at p = 1 - 1e-9 in float64. Where that matters, let p be the small one of the two.
    """

    name, wants = "unit_interval", "must be in [0, 1]"

    def admits(self, value: Tensor) -> Tensor:
        return (value >= 0) & (value <= 1)

    def admits_number(self, value: float) -> bool:
        return 0 <= value <= 1

    def unconstrain(self, value: Tensor) -> Tensor:
        return torch.logit(value)

    def constrain(self, raw: Tensor) -> Tensor:
        edge = torch.isinf(raw)
        return torch.where(edge, (raw > 0).to(raw.dtype), torch.sigmoid(torch.where(edge, 0.0, raw)))


class _Simplex(Constraint):
    """Log-weights under softmax; zeros are a structural mask: -inf stays there, with zero gradient."""

    name, wants, event_ndim = "simplex", "must be >= 0 and sum to 1", 1

    def admits(self, value: Tensor) -> Tensor:
        inside = torch.isfinite(value).all(-1) & (value >= 0).all(-1)
        return inside & rounding.explains(value)

    def settled(self, value: Tensor) -> Tensor:
        return rounding.rescaled(value)

    def unconstrain(self, value: Tensor) -> Tensor:
        return value.log()

    def constrain(self, raw: Tensor) -> Tensor:
        return torch.softmax(raw, -1)

    def log(self, raw: Tensor) -> Tensor:
        zero = raw == -torch.inf
        kept = torch.where(zero, torch.finfo(raw.dtype).min, raw)
        return torch.where(zero, -torch.inf, torch.log_softmax(kept, -1))

    def log_inside(self, raw: Tensor) -> Tensor:
        return torch.log_softmax(raw, -1)


real, fixed, positive, nonnegative, unit_interval, simplex = (
    _Real(),
    _Fixed(),
    _Positive(),
    _NonNegative(),
    _UnitInterval(),
    _Simplex(),
)
CONSTRAINTS: dict[str, Constraint] = {c.name: c for c in (real, fixed, positive, nonnegative, unit_interval, simplex)}


@dataclass(frozen=True, eq=False, init=False)
class Parameter:
    """A value with a constraint; two units that hold the same object are tied.

    **Arguments**

    - `value`: a tensor or an array, kept with its dtype until compilation and never changed; or numbers, kept in float64.
      Probabilities that miss a sum of 1 by the rounding of their printed digits are divided by it, in float64.
    - `constraint`: one of `real`, `positive`, `nonnegative`, `unit_interval`, `simplex`, `fixed`.
    - `trainable`: False freezes it.

    **Raises** `ParameterError` where the value leaves the constraint, naming the first offending entry; and for a tensor
    with a graph, which would be cut off.

    >>> scale = Parameter(torch.tensor(0.5), positive)
    >>> scale.shape, scale.frozen().trainable
    (torch.Size([]), False)
    """

    value: Tensor
    constraint: Constraint
    trainable: bool
    name: str
    log_value: Tensor | None
    """The logarithm that the parameter was made of, in float64; None where it was made of a value."""

    def __init__(self, value: object, constraint: Constraint, trainable: bool = True, name: str = "parameter") -> None:
        tensor = as_numbers(value, name)
        check(tensor, constraint, name)
        settled = constraint.settled(tensor)
        self._set(_owned(settled) if settled is tensor else settled, constraint, trainable, name, None)

    def _set(
        self, value: Tensor, constraint: Constraint, trainable: bool, name: str, log_value: Tensor | None
    ) -> Parameter:
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "constraint", constraint)
        object.__setattr__(self, "trainable", trainable and constraint is not fixed)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "log_value", log_value)
        return self

    @classmethod
    def from_log(
        cls, log_value: object, constraint: Constraint, trainable: bool = True, name: str = "parameter"
    ) -> Parameter:
        """A parameter from logarithms, so that weights below the smallest float stay what they are.

        **Arguments**

        - `log_value`: log-weights, kept in float64; -inf is a structural zero.
        - `constraint`: `nonnegative`, or `simplex`, for which the weights of the last axis sum to 1.
        - `trainable`, `name`: as of `Parameter`.

        **Raises** `ParameterError` for other constraints, NaN, +inf and weights above the largest float, and for logs of
        weights that do not sum to 1 under `simplex`.

        >>> rare = Parameter.from_log([0.0, -1000.0], simplex)
        >>> rare.value.tolist(), rare.log().tolist()
        ([1.0, 0.0], [0.0, -1000.0])
        """
        if constraint.name not in (nonnegative.name, simplex.name):
            raise ParameterError(
                f"{name}: logarithms make nonnegative and simplex parameters, not {constraint.name} ones"
            )
        given = as_numbers(log_value, name)
        log = given.to(torch.float64)
        if constraint.event_ndim > log.ndim:
            raise ParameterError(f"{name} is a single number where a vector is needed: it {constraint.wants}")
        if bool((bad := ~(log < LARGEST_LOG)).any()):
            where = tuple(bad.nonzero()[0].tolist())
            raise ParameterError(
                f"the log of {name}{f' at {list(where)}' if where else ''} is {log[where].item()!r}: it must be a number below "
                f"{LARGEST_LOG:.2f}, the log of the largest float, or -inf"
            )
        if constraint.event_ndim:
            log = _log_normalised(log, given, name)
        return cls.__new__(cls)._set(_owned(log).exp(), constraint, trainable, name, _owned(log))

    @property
    def shape(self) -> torch.Size:
        """The value's shape."""
        return self.value.shape

    def log(self) -> Tensor:
        """The logarithm in float64, of a simplex normalised over its last axis; from `log_value` where there is one.

        >>> Parameter([0.25, 0.75], nonnegative).log().exp().tolist()
        [0.25, 0.75]
        """
        log = self.value.to(torch.float64).log() if self.log_value is None else self.log_value
        return torch.log_softmax(log, -1) if self.constraint is simplex else log

    def __reduce__(self) -> tuple[object, ...]:
        """Numbers as an array where they can be one: a pickled tensor takes a kilobyte more."""
        logarithm = self.log_value is not None
        once = _once(self.value if self.log_value is None else self.log_value)
        numbers = once.numpy() if once.device.type == "cpu" and once.dtype != torch.bfloat16 else once
        return _unpickled, (numbers, tuple(self.shape), self.constraint, self.trainable, self.name, logarithm)

    def frozen(self) -> Parameter:
        """The same value, not trainable (and no longer tied to this one)."""
        return type(self).__new__(type(self))._set(self.value, self.constraint, False, self.name, self.log_value)

    def selected(self, select: Callable[[Tensor], Tensor]) -> Parameter:
        """Another parameter of the same kind: `select` takes entries of the value, or of the logarithm it was made of.

        >>> Parameter([[0.5, 2.0], [1.0, 0.0]], nonnegative).selected(lambda value: value[1]).value.tolist()
        [1.0, 0.0]
        """
        make, kept = (Parameter, self.value) if self.log_value is None else (Parameter.from_log, self.log_value)
        return make(select(kept), self.constraint, self.trainable, self.name)


LARGEST_LOG = math.log(torch.finfo(torch.float64).max)


def _log_normalised(log: Tensor, given: Tensor, name: str) -> Tensor:
    """Logs of a simplex whose sum is 1 but for the rounding of the dtype they came in, normalised in float64."""
    total = torch.logsumexp(log, -1)
    narrow = bool((given.to(torch.float32).to(given.dtype) == given).all())
    dtype = torch.float32 if narrow and given.dtype == torch.float64 else given.dtype
    # A log has the relative error of its dtype: all together change the sum by it times the entropy, log N at most.
    allowed = min(rounding.FURTHEST, rounding.of_dtype(dtype, log.shape[-1]) * (1 + math.log(log.shape[-1])))
    bad = ~(torch.expm1(total).abs() <= allowed)
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0].tolist())
        raise ParameterError(
            f"the log of {name}{f' at {list(where)}' if where else ''} is that of weights with the sum "
            f"{total[where].exp().item():.6g}: they must sum to 1; torch.log_softmax(x, -1) makes them"
        )
    near = total.abs() <= 1e-12  # kept bit by bit, so that a file gives back what it was given
    return log if bool(near.all()) else torch.where(near.unsqueeze(-1), log, torch.log_softmax(log, -1))


def _owned(value: Tensor) -> Tensor:
    """A copy, which the caller cannot change; what an axis merely repeats is stored once."""
    if value.numel() == 1:
        return value.clone()
    return _once(value).clone().expand(value.shape)


def _once(value: Tensor) -> Tensor:
    """A value without the axes along which it only repeats."""
    return value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())]


def _unpickled(
    numbers: Tensor | np.ndarray[Any, Any],
    shape: tuple[int, ...],
    constraint: Constraint,
    trainable: bool,
    name: str,
    logarithm: bool,
) -> Parameter:
    if isinstance(numbers, np.ndarray):
        numbers = torch.as_tensor(np.require(numbers, requirements="W"))  # torch warns of arrays that cannot be written
    value, log_value = (numbers.exp(), numbers.expand(shape)) if logarithm else (numbers, None)
    return Parameter.__new__(Parameter)._set(value.expand(shape), constraint, trainable, name, log_value)


def check(value: Tensor, constraint: Constraint, name: str) -> None:
    """Raise `ParameterError` unless every entry of `value` is admissible."""
    if constraint.event_ndim > value.ndim:
        raise ParameterError(f"{name} is a single number where a vector is needed: it {constraint.wants}")
    if value.numel() == 1 and constraint.event_ndim == 0 and constraint.admits_number(value.item()):
        return
    good = constraint.admits(value)
    if bool(good.all()):
        return
    where = tuple((~good).nonzero()[0].tolist())
    bad = value[where]
    shown = f"{bad.item()!r}" if bad.ndim == 0 else f"{_short(bad)} (sum {bad.sum().item():.6g})"
    place = f" at {list(where)}" if where else ""
    raise ParameterError(f"{name}{place} is {shown}: it {constraint.wants}")


def _short(vector: Tensor) -> str:
    shown = ", ".join(f"{v:.4g}" for v in vector[:6].tolist())
    return f"[{shown}{', ...' if vector.numel() > 6 else ''}]"


def as_parameter(value: object, constraint: Constraint, name: str) -> Parameter:
    """A `Parameter` from a number, a sequence, an array or a tensor; a `Parameter` passes through, so that it can be tied."""
    if isinstance(value, Parameter):
        if value.constraint is not constraint:
            raise ParameterError(
                f"{name} needs a {constraint.name} parameter, not a {value.constraint.name} one "
                f"(it {constraint.wants}): make it with pcircuits.Parameter(value, pcircuits.{constraint.name})"
            )
        return value
    return Parameter(value, constraint, name=name)


def as_numbers(value: object, name: str) -> Tensor:
    """Numbers as a floating-point tensor: tensors and arrays of floats keep their dtype, all else becomes float64.

    The dtype says how far rounding may have taken a simplex from a sum of 1.

    **Raises** `ParameterError` where these are no numbers, where one is missing, and for tensors that require a gradient.
    """
    if type(value) is float:  # circuits built unit by unit have one for each unit
        return torch.tensor(value, dtype=torch.float64)
    try:
        tensor, known = as_values(value)
    except TypeError as error:
        raise ParameterError(f"{name} is not a number or an array of numbers: {value!r} ({error})") from error
    if tensor.requires_grad:
        raise ParameterError(
            f"{name} is a tensor that requires a gradient, and a circuit copies the values it is given, so that training "
            "would not reach it: give x.detach() to copy the values, and let the compiled model train its own; or, for "
            "parameters of input units and weights of sums, a pcircuits.Sourced whose source is the module to be trained"
        )
    if known is not None and not bool(known.all()):
        raise ParameterError(f"{name} has masked entries: every parameter needs a value")
    keeps = tensor.dtype.is_floating_point and not isinstance(value, int | float | list | tuple)
    return tensor if keeps else tensor.to(torch.float64)


@runtime_checkable
class Source(Protocol):
    """A module that makes the parameters of units when asked for some of them.

    The answer must not depend on how the columns are chunked, nor on the mode of the module (train or eval), but on its
    parameters and buffers alone: a model asks again when these have changed.
    """

    def parameters_for(self, columns: Tensor) -> dict[str, Tensor]:
        """For columns (n,) int64: each parameter as (R, n, *event); for sums with A inputs, `weights` or `log_weights`
        (R, n, A)."""
        ...


@dataclass(frozen=True, eq=False)
class Sourced:
    """The parameters of (R, K) input units, or the weights of (R, K) sums, made on demand by a source (an `nn.Module`)."""

    source: nn.Module
    regions: int
    width: int

    def __post_init__(self) -> None:
        if not isinstance(self.source, nn.Module) or not isinstance(self.source, Source):
            raise ParameterError(
                f"a source must be an nn.Module with a method parameters_for(columns), not {type(self.source).__name__}"
            )
