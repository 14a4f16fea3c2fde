"""Sources in files: what a class of sources must offer, and how its modules are written and rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pcircuits.circuit.selected_regions import SelectedRegions
from pcircuits.errors import FileFormatError
from pcircuits.io.types import Types, source_name

__all__ = ["SavableSource", "SourceReader", "SourceWriter"]


@runtime_checkable
class SavableSource(Protocol):
    """A source that can be saved: an `nn.Module` that can be rebuilt from a config and its `state_dict`.

    The config says what the constructor needs (sizes, options); everything learnt or selected, such as the weights of a
    decoder and the codes it decodes, are parameters and buffers. After `from_config`, `load_state_dict` is called,
    strictly. Pass the class to `pcircuits.load(path, types=(MySource,))`.

    >>> class Table(nn.Module):
    ...     def __init__(self, regions: int, width: int) -> None:
    ...         super().__init__()
    ...         self.loc = nn.Parameter(torch.zeros(regions, width))
    ...     def parameters_for(self, columns):
    ...         loc = self.loc[:, columns]
    ...         return {"loc": loc, "scale": torch.ones_like(loc)}
    ...     def to_config(self):
    ...         return {"regions": self.loc.shape[0], "width": self.loc.shape[1]}
    ...     @classmethod
    ...     def from_config(cls, config):
    ...         return cls(**config)
    >>> isinstance(Table(4, 2), SavableSource)
    True
    """

    def to_config(self) -> dict[str, Any]:
        """What `from_config` needs, as JSON: strings, finite numbers, booleans, None, and lists and dicts of them."""
        ...

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> nn.Module:
        """A module with the parameters and buffers of the saved one, in shape; their values follow."""
        ...


class SourceWriter:
    """Numbers the distinct sources of a circuit, and collects their configs and states."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self._numbers: dict[int, int] = {}
        self._names: dict[int, tuple[nn.Parameter, str]] = {}

    def number(self, source: nn.Module) -> int:
        """The number of a source in `entries`; one module has one number."""
        if id(source) not in self._numbers:
            entry = self._selection(source) if isinstance(source, SelectedRegions) else self._entry(source)
            self._numbers[id(source)] = len(self.entries)
            self.entries.append(entry)
        return self._numbers[id(source)]

    def _selection(self, source: SelectedRegions) -> dict[str, Any]:
        whole = self.number(source.source)
        name = f"source.{len(self.entries)}.regions"
        self.tensors[name] = source.regions
        return {"of": whole, "regions": name}

    def _entry(self, source: nn.Module) -> dict[str, Any]:
        name = source_name(source)
        if not isinstance(source, SavableSource):
            raise FileFormatError(
                f"the source {name} cannot be saved: give it to_config() -> dict and the classmethod "
                "from_config(config), see pcircuits.io.SavableSource; or make the circuit of the parameters themselves"
            )
        state = {}
        for key, value in source.state_dict().items():
            if not isinstance(value, Tensor):
                raise FileFormatError(f"the source {name} has {key!r} in its state_dict, which is not a tensor")
            state[key] = f"source.{len(self.entries)}.{key}"
            self.tensors[state[key]] = value
        for key, parameter in source.named_parameters(remove_duplicate=False):
            _, first = self._names.setdefault(id(parameter), (parameter, state.get(key, "")))
            if key in state and first != state[key]:  # sources that share a module have its parameters once
                del self.tensors[state[key]]
                state[key] = first
        return {
            "type": name,
            "config": source.to_config(),
            "state": state,
            "frozen": [key for key, parameter in source.named_parameters() if not parameter.requires_grad],
            "training": source.training,
        }


class SourceReader:
    """Rebuilds the sources of a file, in order: a selection follows what it selects from."""

    def __init__(self, entries: Any, tensors: Mapping[str, Tensor], types: Types) -> None:
        if not isinstance(entries, list):
            raise FileFormatError("the structure is malformed: its sources are not a list")
        self._tensors = tensors
        self._types = types
        self.sources: list[nn.Module] = []
        self._shared: dict[str, nn.Parameter] = {}
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise FileFormatError(f"the structure is malformed at source {number}")
            self.sources.append(self._selection(entry, number) if "of" in entry else self._module(entry, number))

    def _selection(self, entry: dict[str, Any], number: int) -> nn.Module:
        whole, regions = entry["of"], self._tensor(entry.get("regions"), number)
        if type(whole) is not int or not 0 <= whole < number or regions.dtype != torch.int64 or regions.ndim != 1:
            raise FileFormatError(f"the structure is malformed at source {number}: it selects from {whole!r}")
        if not len(regions) or bool((regions < 0).any()):
            raise FileFormatError(f"the structure is malformed at source {number}: it selects impossible regions")
        return SelectedRegions(self.sources[whole], regions)

    def _module(self, entry: dict[str, Any], number: int) -> nn.Module:
        source = self._types.source(entry.get("type"))
        config, names = entry.get("config"), entry.get("state")
        frozen, training = entry.get("frozen"), entry.get("training")
        if not isinstance(config, dict) or not isinstance(names, dict) or not isinstance(frozen, list):
            raise FileFormatError(f"the structure is malformed at source {number}, of type {entry['type']}")
        state = {key: self._tensor(name, number) for key, name in names.items()}
        try:
            with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and overwritten: no seed may move
                module: nn.Module = source.from_config(config)
            _load_state(module, state)
            for key, parameter in module.named_parameters():
                parameter.requires_grad_(key not in frozen)
            self._share(module, names)
        except Exception as error:
            raise FileFormatError(
                f"the source {entry['type']} could not be rebuilt from its config {config}: {error}; "
                "the class in `types` may be of another version than the one that was saved"
            ) from error
        return module.train(training is True)

    def _share(self, module: nn.Module, names: Mapping[str, str]) -> None:
        """Let sources that shared parameters share them again."""
        for key, parameter in list(module.named_parameters(remove_duplicate=False)):
            if key in names and (known := self._shared.setdefault(names[key], parameter)) is not parameter:
                *path, last = key.split(".")
                setattr(module.get_submodule(".".join(path)), last, known)

    def _tensor(self, name: Any, number: int) -> Tensor:
        if not isinstance(name, str) or name not in self._tensors:
            raise FileFormatError(f"the structure is malformed at source {number}: there is no tensor {name!r}")
        return self._tensors[name]


def _load_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """The saved values bit by bit: where the new module has other dtypes, its tensors are replaced, not filled."""
    own = module.state_dict()
    same = all(key in own and own[key].dtype == value.dtype for key, value in state.items())
    module.load_state_dict(state, strict=True, assign=not same)
