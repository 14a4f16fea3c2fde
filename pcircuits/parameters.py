"""Parameters: values with a constraint, kept exactly as given until they are trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from pcircuits.errors import ParameterError

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
        total = value.sum(-1)
        return torch.isfinite(value).all(-1) & (value >= 0).all(-1) & ((total - 1).abs() <= self.tolerance(value))

    @staticmethod
    def tolerance(value: Tensor) -> float:
        """How far from 1 a sum may be: what rounding a simplex to the value's dtype can do to it."""
        return max(1e-9, 8 * torch.finfo(value.dtype).eps * math.sqrt(max(1, value.shape[-1])))

    def unconstrain(self, value: Tensor) -> Tensor:
        return value.log()

    def constrain(self, raw: Tensor) -> Tensor:
        return self.log(raw).exp()

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

    - `value`: a tensor, kept with its dtype until compilation and never changed; or numbers, kept in float64.
    - `constraint`: one of `real`, `positive`, `nonnegative`, `unit_interval`, `simplex`, `fixed`.
    - `trainable`: False freezes it.

    **Raises** `ParameterError` where the value leaves the constraint; the first offending entry is named.

    >>> scale = Parameter(torch.tensor(0.5), positive)
    >>> scale.shape, scale.frozen().trainable
    (torch.Size([]), False)
    """

    value: Tensor
    constraint: Constraint
    trainable: bool
    name: str

    def __init__(self, value: object, constraint: Constraint, trainable: bool = True, name: str = "parameter") -> None:
        tensor = as_numbers(value, name)
        object.__setattr__(self, "value", _owned(tensor.detach()))
        object.__setattr__(self, "constraint", constraint)
        object.__setattr__(self, "trainable", trainable and constraint is not fixed)
        object.__setattr__(self, "name", name)
        check(self.value, constraint, name)

    @property
    def shape(self) -> torch.Size:
        """The value's shape."""
        return self.value.shape

    def __reduce__(self) -> tuple[object, ...]:
        """Numbers as an array where they can be one: a pickled tensor takes a kilobyte more."""
        once = _once(self.value)
        numbers = once.numpy() if once.device.type == "cpu" and once.dtype != torch.bfloat16 else once
        return _unpickled, (numbers, tuple(self.shape), self.constraint, self.trainable, self.name)

    def frozen(self) -> Parameter:
        """The same value, not trainable (and no longer tied to this one)."""
        return Parameter(self.value, self.constraint, trainable=False, name=self.name)


def _owned(value: Tensor) -> Tensor:
    """A copy, which the caller cannot change; what an axis merely repeats is stored once."""
    if value.numel() == 1:
        return value.clone()
    return _once(value).clone().expand(value.shape)


def _once(value: Tensor) -> Tensor:
    """A value without the axes along which it only repeats."""
    return value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride())]


def _unpickled(
    numbers: Tensor | np.ndarray[Any, Any], shape: tuple[int, ...], constraint: Constraint, trainable: bool, name: str
) -> Parameter:
    parameter = Parameter.__new__(Parameter)
    if isinstance(numbers, np.ndarray):
        numbers = torch.as_tensor(np.require(numbers, requirements="W"))  # torch warns of arrays that cannot be written
    value = numbers.expand(shape)
    for field, content in (("value", value), ("constraint", constraint), ("trainable", trainable), ("name", name)):
        object.__setattr__(parameter, field, content)
    return parameter


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

    **Raises** `ParameterError` where these are no numbers.
    """
    try:
        if isinstance(value, Tensor | np.ndarray | np.floating):
            # A copy: torch takes no arrays of negative strides, and warns of those that cannot be written.
            tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
            return tensor if tensor.dtype.is_floating_point else tensor.to(torch.float64)
        return torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParameterError(f"{name} is not a number or an array of numbers: {value!r}") from error


@runtime_checkable
class Source(Protocol):
    """A module that makes the parameters of units when asked for some of them.

    The answer must not depend on how the columns are chunked, nor on the mode of the module (train or eval).
    """

    def parameters_for(self, columns: Tensor) -> dict[str, Tensor]:
        """For columns (n,) int64: each parameter as (R, n, *event)."""
        ...


@dataclass(frozen=True, eq=False)
class Sourced:
    """The parameters of (R, K) units, made on demand by a source (an `nn.Module`)."""

    source: nn.Module
    regions: int
    width: int

    def __post_init__(self) -> None:
        if not isinstance(self.source, nn.Module) or not isinstance(self.source, Source):
            raise ParameterError(
                f"a source must be an nn.Module with a method parameters_for(columns), not {type(self.source).__name__}"
            )
