"""Structure: learners of it, and fingerprints, as shapes of parameters alone do not tell which circuit a checkpoint is of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Units
from pcircuits.computed import SourcedWeights
from pcircuits.families import AbstractFamily
from pcircuits.learning.cutset_network import cutset_network
from pcircuits.learning.learn_spn import learn_spn
from pcircuits.parameters import Parameter, Sourced
from pcircuits.queries.compiled import CompiledCircuit

__all__ = ["cutset_network", "fingerprint", "learn_spn", "structures"]


def structures(module: nn.Module) -> dict[str, str]:
    """The fingerprints of the compiled circuits in a module, with how their parameters lie in memory, by their places in
    it: an optimiser knows parameters by their order, which depends on the rewrites that a circuit was compiled with.

    >>> import pcircuits as pc
    >>> list(structures(pc.Circuit(pc.Bernoulli("a", 0.5)).compile()))
    ['the circuit']
    """
    return {
        f"the circuit {name}".strip(): fingerprint(part.circuit) + part.program.stored.layout()
        for name, part in module.named_modules()
        if isinstance(part, CompiledCircuit)
    }


def fingerprint(circuit: Circuit) -> str:
    """A digest of everything but the values of parameters: units, wiring, variables in their order, ties, constraints.

    >>> import pcircuits as pc
    >>> def two(first: str, second: str, p: float) -> pc.Circuit:
    ...     return pc.Circuit(pc.Bernoulli(first, p) * pc.Bernoulli(second, 0.5))
    >>> fingerprint(two("a", "b", 0.1)) == fingerprint(two("a", "b", 0.9))
    True
    >>> fingerprint(two("a", "b", 0.1)) == fingerprint(two("b", "a", 0.1))
    False
    """
    digest = hashlib.sha256(repr(circuit.variables).encode())
    numbers: dict[int, int] = {}
    for array in circuit.arrays:
        numbers[id(array)] = len(numbers)
        children = [numbers[id(child)] for child in array.children]
        digest.update(f"{type(array).__name__} {array.shape} {children}".encode())
        for name in sorted({name for cls in type(array).__mro__ for name in getattr(cls, "__slots__", ())}):
            for part in _described(getattr(array, name, None), numbers):
                digest.update(f"{name} {part}".encode())
    return digest.hexdigest()[:16]


def _described(value: Any, numbers: dict[int, int]) -> Iterator[str]:
    """What an array holds, as text; objects are numbered where they first appear, so that ties are seen."""
    if isinstance(value, SourcedWeights):
        yield f"weights {tuple(value.shape)} {value.key}"
        yield from _described(value.sourced, numbers)
    elif isinstance(value, Parameter):
        number = numbers.setdefault(id(value), len(numbers))
        yield f"parameter {number} {tuple(value.shape)} {value.constraint.name} {value.trainable}"
    elif isinstance(value, Sourced):
        number = numbers.setdefault(id(value.source), len(numbers))
        yield f"source {number} {type(value.source).__qualname__} {value.regions} {value.width}"
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from _described(part, numbers)
    elif isinstance(value, np.ndarray):
        yield f"{value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    elif isinstance(value, AbstractFamily):
        yield f"{type(value).__qualname__} {value.name} {value.size} {value.states} {list(value.parameters)}"
    elif isinstance(value, int | str | tuple) and not _holds_units(value):
        yield repr(value)


def _holds_units(value: object) -> bool:
    return isinstance(value, tuple) and any(isinstance(part, Units) for part in value)
