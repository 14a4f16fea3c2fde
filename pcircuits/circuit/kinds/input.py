"""Input units: distributions at the bottom of a circuit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from pcircuits.circuit.kinds.interface import WIDEST, Contents, Index, Ints, Numbering, Scopes, Supports, Units
from pcircuits.circuit.selected_regions import SelectedRegions
from pcircuits.circuit.support import Support
from pcircuits.errors import FileFormatError, ParameterError, ScopeError
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter, Sourced
from pcircuits.scope import Variable, as_labels

__all__ = ["Input"]


class Input(Units):
    """Input units: region r holds K members of one family over `variables[r]`.

    **Arguments**

    - `family`: a family of distributions over `family.size` variables.
    - `variables`: for each region, a tuple of labels.
    - `parameters`: for each name a `Parameter` that broadcasts to (R, K, *event); or a `Sourced`.

    **Raises** `ScopeError` for variables that do not fit the family, `ParameterError` for parameters that do not.

    >>> from pcircuits import families, unit_interval
    >>> Input(families.Bernoulli(), [("a",), ("b",)], {"probs": Parameter([[0.1], [0.9]], unit_interval)})
    Input(2, 1)
    """

    __slots__ = ("family", "parameters", "variables")

    kind = "input"
    codes = (0, 1)

    def __init__(
        self,
        family: AbstractFamily,
        variables: Sequence[tuple[Variable, ...]],
        parameters: Mapping[str, Parameter] | Sourced,
    ) -> None:
        self.family = family
        self.variables = tuple(map(as_labels, variables))
        for labels in self.variables:
            if len(labels) != family.size or len(set(labels)) != len(labels):
                raise ScopeError(f"{family} needs {family.size} distinct variables for each region, not {labels}")
        if isinstance(parameters, Sourced):
            self.parameters: Mapping[str, Parameter] | Sourced = parameters
            shape = (int(parameters.regions), int(parameters.width))
            if shape[0] != len(self.variables):
                raise ParameterError(f"the source makes {shape[0]} regions for {len(self.variables)} variables")
        else:
            self.parameters = dict(parameters)
            shape = self._shape()
        super().__init__(shape, ())

    def _shape(self) -> tuple[int, int]:
        assert not isinstance(self.parameters, Sourced)
        regions, width = len(self.variables), 1
        wanted = self.family.parameters
        if set(wanted) != set(self.parameters):
            raise ParameterError(f"{self.family} has the parameters {list(wanted)}, not {list(self.parameters)}")
        for name, spec in wanted.items():
            lead = self.parameters[name].shape[: len(self.parameters[name].shape) - spec.event_ndim]
            if len(lead) not in (0, 2) or (len(lead) == 2 and lead[0] not in (1, regions)):
                raise ParameterError(
                    f"{name} of {self.family} over {regions} variables has shape {tuple(self.parameters[name].shape)}; "
                    f"it needs ({regions}, K{', ...' if spec.event_ndim else ''}), or a single value"
                )
            if len(lead) == 2 and lead[1] != 1:
                if width not in (1, lead[1]):
                    raise ParameterError(f"{name} of {self.family} has width {lead[1]}, another parameter {width}")
                width = lead[1]
        self.family.validate({name: parameter.value for name, parameter in self.parameters.items()})
        return regions, width

    def scopes(self, children: list[list[int]], scopes: Scopes) -> list[int]:
        return [scopes.of(labels) for labels in self.variables]

    def log_values(self, children: list[Tensor], leaves: Callable[[Input], Tensor]) -> Tensor:
        return leaves(self)

    def supports(self, children: list[list[Support]], supports: Supports) -> list[Support]:
        return supports.of_input(self)

    def held_parameters(self) -> list[Parameter]:
        return [] if isinstance(self.parameters, Sourced) else list(self.parameters.values())

    def held_sourced(self) -> list[Sourced]:
        return [self.parameters] if isinstance(self.parameters, Sourced) else []

    def rebuilt(
        self,
        children: Sequence[Units],
        parameter: Callable[[Parameter], Parameter],
        sourced: Callable[[Sourced], Sourced],
    ) -> Input:
        if isinstance(self.parameters, Sourced):
            return Input(self.family, self.variables, sourced(self.parameters))
        return Input(self.family, self.variables, {name: parameter(p) for name, p in self.parameters.items()})

    def to_integers(self, numbering: Numbering) -> tuple[int, Ints]:
        """The family; its parameters, or a source and the width; then a variable for each region and place."""
        family, columns = numbering.family(self.family), numbering.columns(self.variables)
        if isinstance(self.parameters, Sourced):
            return 1, [family, numbering.source(self.parameters.source), self.width, *columns]
        return 0, [family, *(numbering.parameter(self.parameters[name]) for name in self.family.parameters), *columns]

    @classmethod
    def from_integers(cls, code: int, children: list[Units], ints: Index, contents: Contents) -> Input:
        if not len(ints):
            raise FileFormatError("its family is not in the file")
        family, names = contents.family(int(ints[0]))
        if code == 1:
            return cls._sourced(family, ints, contents)
        numbers = ints[1 : 1 + len(names)].tolist()
        if len(numbers) < len(names):
            raise FileFormatError(f"{family} lacks parameters")
        parameters = {name: contents.parameter(n) for name, n in zip(names, numbers, strict=True)}
        return cls(family, contents.variables(ints[1 + len(names) :], family.size), parameters)

    @classmethod
    def _sourced(cls, family: AbstractFamily, ints: Index, contents: Contents) -> Input:
        if len(ints) < 3 or not 1 <= ints[2] <= WIDEST:
            raise FileFormatError(f"{family} has a source or a width that cannot be")
        labels, source = contents.variables(ints[3:], family.size), contents.source(int(ints[1]))
        if isinstance(source, SelectedRegions) and len(source.regions) != len(labels):
            raise FileFormatError(f"its source makes {len(source.regions)} regions for {len(labels)} variables")
        return cls(family, labels, Sourced(source, len(labels), int(ints[2])))
