"""What a check says: yes, no or unknown, and the unit that shows it."""

from __future__ import annotations

from dataclasses import dataclass

from pcircuits.errors import PropertyError
from pcircuits.scope import Variable

__all__ = ["Verdict", "Witness"]


@dataclass(frozen=True)
class Witness:
    """Where a property fails: the unit, the scopes that clash, and the variables they clash in."""

    unit: str
    reason: str
    scopes: tuple[frozenset[Variable], ...] = ()
    variables: frozenset[Variable] = frozenset()

    def __str__(self) -> str:
        return f"{self.unit}: {self.reason}"


@dataclass(frozen=True)
class Verdict:
    """Whether a property holds: `holds` is True, False, or None where it could not be decided."""

    property: str
    holds: bool | None
    witness: Witness | None = None

    def __bool__(self) -> bool:
        return self.holds is True

    def __str__(self) -> str:
        word = {True: "yes", False: "no", None: "unknown"}[self.holds]
        return f"{self.property}: {word}" + (f" ({self.witness})" if self.witness else "")

    def require(self, query: str, remedy: str) -> None:
        """Raise `PropertyError` unless the property holds."""
        if self.holds is True:
            return
        how = "is not" if self.holds is False else "could not be shown to be"
        raise PropertyError(f"{query} needs a {self.property} circuit, and this one {how}: {self.witness}. {remedy}")
