"""A circuit over codes as a prior: its next-symbol probabilities are exact conditionals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import pcircuits as pc
from pcircuits.circuit.units import Input
from pcircuits.errors import ParameterError
from pcircuits.families.finite import AbstractFinite
from pcircuits.learning import EMSettings, EpochRecord, History, Rows, em
from pcircuits.parameters import Sourced
from pcircuits.scope import REAL
from vq_sources.data import EncodedDataset
from vq_sources.priors.interface import AutoregressivePrior
from vq_sources.protocols import check_codes

__all__ = ["CircuitPrior"]


class CircuitPrior(AutoregressivePrior):
    """p(z | c) by a probabilistic circuit over the P codes, with a root for each class.

    p(z_t = k | z_<t, c) is the circuit's own conditional: one pass up on the prefix, the later codes summed out, and one
    pass down to the units of code t, which gives all K symbols together. So every selection runs on it, and
    `vq_sources.compose` takes it to a circuit over pixels.

    Any structure over P discrete variables will do, such as `pcircuits.structures.hidden_tree` on the Chow-Liu tree of the
    codes, or `layered(quad_graph(h, w), categorical_leaves(K), ...)`. It is trained by `em`; `vq_sources.fit` trains it by
    gradients, as every prior. `model` is the compiled circuit.

    **Arguments**

    - `circuit`: over P discrete variables, column i the code of position i. One root, or C roots for C classes; values are
      divided by the roots' masses, so that it need not be normalised.
    - `grid`: (H, W) with H · W = P; (1, P) where None.
    - `num_codes`: K, or one number for each position; by default the largest that the circuit's units allow.
    - `dtype`: of the model; torch's default where None. Probabilities are float64 in any case, with its digits.

    **Raises** `ParameterError` for variables that are not discrete, and codes beyond the circuit's states.

    >>> from pcircuits import structures
    >>> codes = torch.tensor([[0, 1, 1], [0, 1, 0], [2, 0, 1], [2, 0, 0]])
    >>> tree = structures.chow_liu_tree(codes)
    >>> start = structures.counted_start(codes, codes, pseudocount=0.0, rows=0.0)  # the codes are their own latents
    >>> leaves, generator = structures.categorical_leaves(3), torch.Generator().manual_seed(0)
    >>> prior = CircuitPrior(structures.hidden_tree(tree, leaves, 3, start=start, generator=generator))
    >>> prior.next_log_probs(torch.tensor([[0, 1]])).exp().round(decimals=6)[0, :2].tolist()
    [0.5, 0.5]
    """

    def __init__(
        self,
        circuit: pc.Circuit,
        grid: tuple[int, int] | None = None,
        num_codes: int | Sequence[int] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = _sizes(circuit)
        super().__init__(
            (1, len(sizes)) if grid is None else grid,
            sizes if num_codes is None else num_codes,
            None if circuit.num_roots == 1 else circuit.num_roots,
        )
        for position, (cardinality, states) in enumerate(zip(self.cardinalities, circuit.states, strict=True)):
            if cardinality < sizes[position] or 0 < states < cardinality:
                raise ParameterError(
                    f"num_codes is {cardinality} at position {position}, and the circuit has {sizes[position]} states there"
                )
        self.model = circuit.compile(dtype=dtype)

    @property
    def device(self) -> torch.device:
        return self.model.program.like.device

    def em(
        self,
        data: EncodedDataset,
        settings: EMSettings | None = None,
        *,
        folder: str | Path | None = None,
        progress: bool = False,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> History:
        """Fit to encoded data by expectation-maximisation; with classes, each root to the codes of its own.

        Class probabilities become the frequencies of the training labels.

        **Arguments**

        - `data`: what `vq_sources.encode` makes of a data set.
        - `settings`, `folder`, `progress`, `on_epoch`: as of `pcircuits.learning.em`.

        **Raises** `DataError` for codes and labels that do not fit; else as `pcircuits.learning.em`.

        >>> from pcircuits import structures
        >>> from vq_sources.data import EncodedDataset, EncodedSplit
        >>> codes = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 1, 0], [1, 1, 1]])
        >>> split = EncodedSplit(codes, torch.tensor([0, 0, 1, 1]))
        >>> data = EncodedDataset("three", (1, 3), (2, 2, 2), 2, split, split, split)
        >>> tree = structures.hidden_tree(
        ...     structures.chow_liu_tree(codes), structures.categorical_leaves(2), 2, 2,
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> prior = CircuitPrior(tree)
        >>> history = prior.em(data, EMSettings(epochs=30, pseudocount=0.0))
        >>> prior.log_prob(codes, split.labels).exp().round(decimals=3).tolist()
        [0.5, 0.5, 0.5, 0.5]
        """
        self.prepare(data.train.batch)
        rows, validation = (self._rows(*split.batch) for split in (data.train, data.validation))
        return em(self.model, rows, validation, settings=settings, folder=folder, progress=progress, on_epoch=on_epoch)

    def _rows(self, codes: Tensor, labels: Tensor) -> Rows:
        check_codes(codes, self.cardinalities)
        return Rows(codes.to(self._dtype), roots=None if self.num_classes is None else self._labels(labels, len(codes)))

    def to_circuit(self) -> pc.Circuit:
        """The circuit with the parameters that it has now; a root for each class where there are some."""
        return self.model.to_circuit()

    def marginal_circuit(self) -> pc.Circuit:
        """p(z) = Σ_c p(c) p(z | c) as one circuit with one root; without classes, the circuit itself."""
        circuit = self.to_circuit()
        if self.num_classes is None:
            return circuit
        roots = pc.normalise(circuit)
        return pc.Circuit(pc.mixture(self.class_probs.cpu(), roots.root), circuit.variables)

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "circuit": str(self.model.circuit.summary())}

    def _log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        # The mass of each root is one row of its own: all codes missing.
        missing = torch.full((1, self.positions), torch.nan, dtype=self._dtype, device=codes.device)
        rows = torch.cat([missing, codes.to(self._dtype)])
        values = self.model.log_prob(rows).double()
        if label is None:
            return values[1:] - values[0]
        picked = label.to(values.device)
        return values[1:].gather(1, picked[:, None])[:, 0] - values[0, picked]

    def _next_log_probs(self, prefix: Tensor, label: Tensor | None) -> Tensor:
        rows, length = prefix.shape
        cardinality = self.cardinalities[length]
        known = torch.full((rows, self.positions), torch.nan, dtype=self._dtype, device=self.device)
        known[:, :length] = prefix.to(self._dtype)
        result = torch.full((rows, cardinality), -math.log(cardinality), dtype=torch.float64, device=self.device)
        with torch.no_grad():
            log_known = self.model.log_prob(known)
            log_known = log_known if label is None else log_known.gather(1, label[:, None])[:, 0]
            possible = (log_known > -torch.inf).nonzero()[:, 0]
            if len(possible):
                asked = self.model if label is None else self.model.root(label[possible])
                probs = asked.given(known[possible]).probabilities(self.model.variables[length])[:, 0].double()
                # States that the circuit has no units for are impossible, and so are those beyond the codes that exist.
                probs = F.pad(probs, (0, max(0, cardinality - probs.shape[1])))[:, :cardinality]
                result[possible] = (probs / probs.sum(1, keepdim=True)).log()
        return result

    @property
    def _dtype(self) -> torch.dtype:
        return self.model.program.like.dtype


def _sizes(circuit: pc.Circuit) -> tuple[int, ...]:
    """For each variable the smallest S such that the circuit gives no probability to S and beyond."""
    sizes = dict.fromkeys(circuit.variables, 0)
    for label, states in zip(circuit.variables, circuit.states, strict=True):
        if states == REAL:
            raise ParameterError(
                f"the variable {label!r} is a real number: a prior is a circuit over codes, all discrete"
            )
    for array in circuit.inputs:
        for (label,), size in zip(array.variables, _needed(array), strict=True):
            if label in sizes:
                sizes[label] = max(sizes[label], size)
    return tuple(sizes.values())


def _needed(array: Input) -> list[int]:
    """For each region the number of states up to the last that a unit gives probability to."""
    family, parameters = array.family, array.parameters
    if isinstance(family, AbstractFinite) and not isinstance(parameters, Sourced):
        table = family.log_table({name: parameter.value for name, parameter in parameters.items()})
        numbers = torch.arange(1, family.states + 1)
        found: Tensor | None = torch.where(table > -torch.inf, numbers, 0).amax(-1)
    else:
        given = {} if isinstance(parameters, Sourced) else parameters
        found = family.support_sizes({name: parameter.value for name, parameter in given.items()})
    if found is None:
        raise ParameterError(f"{array!r} of {family} has no largest state, and codes have one")
    sizes: list[int] = found.expand(array.shape).amax(1).long().tolist()
    return sizes
