"""The names of types in files: families of the library, and the user's families and sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from torch import nn

from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.families import FAMILIES
from pcircuits.families.interface import AbstractFamily

__all__ = ["Types", "family_entry", "family_of", "source_name"]

OWN = "pcircuits."


def family_entry(family: AbstractFamily) -> dict[str, Any]:
    """A family as JSON: its type, the fields of its dataclass, and the names of its parameters in order."""
    name = type(family).__qualname__
    if FAMILIES.get(getattr(family, "name", "")) is type(family):
        name = OWN + family.name
    if not dataclasses.is_dataclass(family):
        raise FileFormatError(f"the family {name} cannot be saved: make it a frozen dataclass whose fields are numbers")
    fields = {field.name: getattr(family, field.name) for field in dataclasses.fields(family) if field.init}
    for field, value in fields.items():
        if not _plain(value):
            raise FileFormatError(
                f"the family {name} cannot be saved: its field {field} is {value!r}, not a number, a string or a tuple of them"
            )
    return {"type": name, "fields": fields, "parameters": list(family.parameters)}


def family_of(entry: Any) -> AbstractFamily:
    """A family of the library, from the JSON that `family_entry` made of it."""
    return Types(()).family(entry)[0]


def source_name(source: nn.Module) -> str:
    """What a file calls the class of a source: the library's own are known wherever they are read."""
    name = type(source).__qualname__
    return OWN + name if _own_sources().get(name) is type(source) else name


def _own_sources() -> dict[str, type[nn.Module]]:
    from pcircuits.structures.sources import SOURCES  # structures import families' entries from here

    return {cls.__qualname__: cls for cls in SOURCES}


def _plain(value: Any) -> bool:
    """Whether JSON holds a field: a tuple is written as a list, and read as a tuple again."""
    return all(map(_plain, value)) if isinstance(value, tuple) else isinstance(value, int | float | str | None)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Types:
    """What the names of types in a file stand for.

    **Arguments**

    - `types`: the user's families and sources, known by their class names.

    **Raises** `CircuitError` for what is neither a family nor a source, and where two have one name.
    """

    def __init__(self, types: Iterable[type]) -> None:
        self._user: dict[str, type[Any]] = {}
        for cls in types:
            if not (isinstance(cls, type) and issubclass(cls, AbstractFamily | nn.Module)):
                raise CircuitError(f"types holds classes of families and of sources, not {cls!r}")
            if self._user.setdefault(cls.__qualname__, cls) is not cls:
                raise CircuitError(f"types holds two classes of the name {cls.__qualname__}: rename one of them")

    def family(self, entry: Any) -> tuple[AbstractFamily, list[str]]:
        """A family and the names of its parameters, in the order of the file."""
        fields = entry.get("fields") if isinstance(entry, dict) else None
        names = entry.get("parameters") if isinstance(entry, dict) else None
        if not isinstance(fields, dict) or not isinstance(names, list):
            raise FileFormatError("the structure is malformed: a family has no fields or no parameters")
        name = entry.get("type")
        own = FAMILIES.get(name.removeprefix(OWN)) if isinstance(name, str) and name.startswith(OWN) else None
        cls = own or self._named(name, AbstractFamily, "family")
        try:
            family = cls(**{field: _tuples(value) for field, value in fields.items()})
            known = list(family.parameters)
        except Exception as error:
            raise FileFormatError(f"the family {name} cannot be rebuilt from its fields {fields}: {error}") from error
        if known != names:
            raise FileFormatError(
                f"the family {name} has the parameters {known} here, and had {names} when it was saved"
            )
        return family, known

    def source(self, name: Any) -> type[Any]:
        """A class of sources by its name."""
        if isinstance(name, str) and name.startswith(OWN) and name.removeprefix(OWN) in (own := _own_sources()):
            return own[name.removeprefix(OWN)]
        return self._named(name, nn.Module, "source")

    def _named(self, name: Any, kind: type, what: str) -> type[Any]:
        if isinstance(name, str) and name.startswith(OWN):
            raise FileFormatError(f"the library has no {what} {name.removeprefix(OWN)!r} here: upgrade pcircuits")
        if not isinstance(name, str) or name not in self._user:
            known = sorted(self._user) or "none"
            raise FileFormatError(
                f"the {what} {name!r} is not known here: pass its class, as in "
                f"pcircuits.load(path, types=({str(name).rpartition('.')[2]},)); types given: {known}"
            )
        if not issubclass(self._user[name], kind):
            raise FileFormatError(f"{name} in `types` is no {what}, as which the file uses it")
        return self._user[name]
