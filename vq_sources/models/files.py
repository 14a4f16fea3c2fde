"""Models to files and back: one safetensors file, with architecture and config in its header."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from pcircuits.errors import CircuitError, FileFormatError, ParameterError
from pcircuits.families import FAMILIES, AbstractFamily
from pcircuits.files import replacing
from vq_sources.errors import ConfigError
from vq_sources.quantizers.seeding import seeded

__all__ = ["Architectures", "config_from_dict", "config_of", "config_to_dict", "load_model", "save_model"]

C = TypeVar("C")

_FORMAT, _VERSION = "vq_sources.model", 1
_SMALL = 2**16
"""Sizes up to this need no tensor of their own: grey levels, for one."""


Architectures = Mapping[str, tuple[type, Callable[[Any], nn.Module]]]
"""Name of a module's class to (class of its config, its constructor from a config)."""


def save_model(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model with a `config` (a frozen dataclass) to one file, whole or not at all.

    **Arguments**

    - `model`: its class's name, `config` and `state_dict()` are kept, exactly.
    - `path`: replaced where it exists.

    **Raises** `ParameterError` for a model that could not be made again from the file: without a `config`, or with a
    family that is not the library's.
    """
    path = Path(path)
    header = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "architecture": type(model).__name__,
        "config": json.dumps(config_of(model)),
    }
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    content = save(state, metadata=header)  # not save_file, whose files only their owner can read
    with replacing(path) as file:
        file.write(content)


def load_model(path: str | os.PathLike[str], architectures: Architectures) -> nn.Module:
    """Read a model that `save_model` wrote, on the CPU, in eval mode.

    **Arguments**

    - `path`: the file.
    - `architectures`: what may be rebuilt, such as `{"VQVAE": (VQVAEConfig, VQVAE)}`.

    **Raises** `FileNotFoundError` where there is no file; `FileFormatError` for a file that is damaged, is no model, is
    newer than this version, or holds another architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise FileFormatError(
            f"{path} cannot be read as a model ({error}): it is truncated, altered or no model"
        ) from error
    config_class, build = _architecture(path, header, architectures)
    model: nn.Module
    try:
        values = json.loads(header["config"])
        _check_sizes(values, sum(value.numel() for value in state.values()))
        config = config_from_dict(config_class, values)
        with seeded(torch.Generator().manual_seed(0)):
            model = build(config)
        # Each tensor keeps its own dtype: class probabilities are float64 whatever the weights are.
        model.load_state_dict(state, assign=True)
    except (CircuitError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        name = header["architecture"]
        raise FileFormatError(f"{path} does not hold a {name} that this version can rebuild: {error}") from error
    return model.eval()


def config_of(model: nn.Module, types: Iterable[type[AbstractFamily]] = ()) -> dict[str, Any]:
    """The config of a model as JSON's types.

    **Arguments**

    - `types`: families of the user's that the config may name, because whoever reads it is given their classes.

    **Raises** `ParameterError` for a model that cannot be made again from it.
    """
    config = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config):
        raise ParameterError(
            f"a {type(model).__name__} has no `config`, a frozen dataclass that it can be made again from: it cannot be "
            "kept in a file"
        )
    return config_to_dict(config, types)


def config_to_dict(config: object, types: Iterable[type[AbstractFamily]] = ()) -> dict[str, Any]:
    """A config as JSON's types: tuples become lists, a family becomes an object with its name.

    **Arguments**

    - `config`: a dataclass of numbers, strings, tuples and families.
    - `types`: families of the user's that it may hold; `config_from_dict` then needs them too.

    **Raises** `ParameterError` for a family that is neither the library's nor in `types`.

    **Example**

    >>> from vq_sources.models import VQVAEConfig
    >>> config_to_dict(VQVAEConfig())["data_shape"], config_to_dict(VQVAEConfig())["family"]
    ([8, 8], {'family': 'Normal'})
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"a config must be a dataclass, not {type(config).__name__}")
    known = tuple(types)
    return {field.name: _encode(getattr(config, field.name), known) for field in dataclasses.fields(config)}


def config_from_dict(config_class: type[C], values: Mapping[str, Any], types: Iterable[type[AbstractFamily]] = ()) -> C:
    """The inverse of `config_to_dict`.

    **Arguments**

    - `config_class`: the dataclass.
    - `values`: its fields, as JSON gives them; what is left out has its default.
    - `types`: families of the user's, by whose names `values` may call them.

    **Raises** `ConfigError` for fields that the class does not have or that are missing, and families that are unknown.

    **Example**

    >>> import json
    >>> from vq_sources.models import VQVAEConfig
    >>> stored = json.dumps(config_to_dict(VQVAEConfig(grid=(4, 4))))
    >>> config_from_dict(VQVAEConfig, json.loads(stored)) == VQVAEConfig(grid=(4, 4))
    True
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"a {config_class.__name__} is made from a mapping of its fields, not from {values!r}")
    fields = {field.name: field for field in dataclasses.fields(config_class) if field.init}  # type: ignore[arg-type]
    unknown = [name for name in values if name not in fields]
    missing = [name for name, field in fields.items() if _required(field) and name not in values]
    if unknown or missing:
        wrong = f"no field {unknown[0]!r}" if unknown else f"a field {missing[0]!r}, which is missing here"
        raise ConfigError(f"a {config_class.__name__} has {wrong}: its fields are {', '.join(fields)}")
    families = {**FAMILIES, **{cls.name: cls for cls in types}}
    return config_class(**{name: _decode(value, families) for name, value in values.items()})


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_sizes(values: Any, numbers: int) -> None:
    """Refuse a config with sizes beyond what the file's tensors can be of, before anything is built with them."""
    parts = values.values() if isinstance(values, Mapping) else values if isinstance(values, list) else ()
    for part in parts:
        if isinstance(part, int) and abs(part) > max(numbers, _SMALL):
            raise ValueError(f"its config has the size {part}, and its tensors hold {numbers:,} numbers")
        _check_sizes(part, numbers)


def _architecture(path: Path, header: Mapping[str, str], architectures: Architectures) -> Any:
    if header.get("format") != _FORMAT:
        raise FileFormatError(f"{path} is a safetensors file, but not a model that save_model wrote")
    version = header.get("version", "")
    if not version.isdecimal() or int(version) > _VERSION:
        raise FileFormatError(
            f"{path} has version {version!r} of the format and this package reads up to {_VERSION}: update the package"
        )
    name = header.get("architecture", "")
    if name not in architectures:
        raise FileFormatError(f"{path} holds the architecture {name!r}, where {_either(architectures)} is needed")
    return architectures[name]


def _either(architectures: Architectures) -> str:
    return " or ".join(repr(name) for name in architectures)


def _encode(value: Any, types: tuple[type[AbstractFamily], ...]) -> Any:
    if isinstance(value, tuple):
        return [_encode(item, types) for item in value]
    if isinstance(value, AbstractFamily):
        if FAMILIES.get(value.name) is not type(value) and type(value) not in types:
            raise ParameterError(
                f"the family {value.name!r} is not one of the library's, and a model with it cannot be made again from a "
                "file: distil with eager=True, and load the circuit with types=[its class]"
            )
        if not dataclasses.is_dataclass(value):
            raise ParameterError(f"the family {value.name!r} cannot be kept in a file: make it a frozen dataclass")
        return {"family": value.name, **config_to_dict(value, types)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a config may hold numbers, strings, tuples and families, not {type(value).__name__}")


def _decode(value: Any, families: Mapping[str, type[AbstractFamily]]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, families) for item in value)
    if isinstance(value, dict):
        fields = dict(value)
        name = fields.pop("family", None)
        if name not in families:
            raise ConfigError(
                f"there is no family {name!r} here: pass its class in types (of a circuit, to vq_sources.load_circuit), or "
                f"take one of {sorted(FAMILIES)}"
            )
        return config_from_dict(families[name], fields)
    return value
