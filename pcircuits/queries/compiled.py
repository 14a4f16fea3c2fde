"""Compiled circuits: the queries of a model, of a model given evidence, and of one of several roots."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from pcircuits.circuit.algebra import Combination
from pcircuits.circuit.circuit import Circuit, Unit
from pcircuits.circuit.units import Units
from pcircuits.errors import CircuitError, ParameterError
from pcircuits.evidence import EvidenceLike
from pcircuits.memory import collector_paused
from pcircuits.parameters import Sourced
from pcircuits.program.program import Program
from pcircuits.queries.conditional import Conditional, variables_of
from pcircuits.queries.counts import ParameterCounts, counts_of
from pcircuits.queries.covariance import covariance
from pcircuits.queries.likelihood import log_prob, log_probability
from pcircuits.queries.marginal_maximum import marginal_maximum
from pcircuits.queries.maximum import Completion, maximum
from pcircuits.queries.moments import expectation, mean, moment, variance
from pcircuits.queries.pairs import pairwise_probabilities
from pcircuits.queries.posteriors import posterior
from pcircuits.queries.probabilities import probabilities
from pcircuits.queries.quantiles import quantile
from pcircuits.queries.sampling import sample
from pcircuits.queries.tables import marginal_modes, state_probabilities
from pcircuits.queries.trained import trained_circuit
from pcircuits.scope import Variable

__all__ = ["CompiledCircuit", "Conditioned", "Queries", "compile_circuit"]


class Queries(ABC):
    """The queries of a model, and of a model given evidence.

    Evidence is a float tensor (B, D) with NaN for what is missing, a pair of a tensor and a mask (True is observed), or a
    dict from variables to values. Answers have their columns in the order of `variables`; observed columns hold their
    evidence. A model that is given B rows answers with a first axis B; one that is given nothing answers without it.
    """

    @abstractmethod
    def _given(self) -> Conditional:
        """What is asked: the model, the root that is meant, and what is known."""

    @property
    def variables(self) -> tuple[int | str, ...]:
        """The labels of the data's columns.

        >>> import pcircuits as pc
        >>> pc.Circuit(pc.Bernoulli("b", 0.5) * pc.Bernoulli("a", 0.5)).compile().variables
        ('b', 'a')
        """
        return self._given().columns.labels

    @property
    def circuit(self) -> Circuit:
        """The symbolic circuit that is asked, with the parameters from before training.

        >>> import pcircuits as pc
        >>> pc.Circuit(pc.Bernoulli("a", 0.5)).compile().circuit
        Circuit(1 variables, 1 arrays, 1 root)
        """
        return self._given().circuit_asked

    def log_prob(self, x: EvidenceLike) -> Tensor:
        """log p(x), (B,); missing values are summed or integrated out; (B, C) for several roots.

        The circuit's own value, also where it is not normalised; all other queries are of the normalised one. Given
        evidence, the conditional log p(x | given): `x` must agree with what is given, or be missing there.
        Differentiable in the parameters.

        **Raises** `EvidenceError` for values outside a variable's states, shapes, infinities, and contradictions.

        >>> import pcircuits as pc
        >>> coins = pc.Circuit(pc.Bernoulli("a", 0.25) * pc.Bernoulli("b", 0.5)).compile()
        >>> rows = torch.tensor([[1.0, 1.0], [1.0, torch.nan]])  # the second row misses b
        >>> coins.log_prob(rows).exp().detach()
        tensor([0.1250, 0.2500])
        """
        return log_prob(self._given(), x)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n samples, (n, D), or (n, B, D) given B rows of evidence; observed columns hold their evidence.

        >>> import pcircuits as pc
        >>> coins = pc.Circuit(pc.Bernoulli("a", 1.0) * pc.Bernoulli("b", 0.5)).compile()
        >>> coins.sample(2)[:, 0]  # a is certain
        tensor([1., 1.])
        >>> coins.given({"b": [0, 1, 1]}).sample(5).shape
        torch.Size([5, 3, 2])
        """
        return sample(self._given(), n, generator)

    def mean(self) -> Tensor:
        """E[X_v], (D,), or (B, D) given evidence.

        Two coins are both biased to heads, or both to tails: P(b | a) = (0.2 · 0.2 + 0.8 · 0.8) / 2 / 0.5 = 0.68.

        >>> import pcircuits as pc
        >>> a, b = pc.Bernoulli("a", [0.2, 0.8]), pc.Bernoulli("b", [0.2, 0.8])
        >>> coins = pc.Circuit((a * b).sum([0.5, 0.5])).compile()
        >>> coins.mean()
        tensor([0.5000, 0.5000])
        >>> coins.given({"a": 1}).mean()
        tensor([[1.0000, 0.6800]])
        """
        return mean(self._given())

    def variance(self) -> Tensor:
        """Var[X_v], (D,), or (B, D) given evidence.

        >>> import pcircuits as pc
        >>> two = pc.Normal("x", [0.0, 4.0], 1.0)
        >>> pc.Circuit(two.sum([0.5, 0.5])).compile().variance()  # 1 within the components, 4 between them
        tensor([5.])
        """
        return variance(self._given())

    def covariance(self) -> Tensor:
        """Cov[X_v, X_w], (D, D), or (B, D, D) given evidence; rows and columns of observed variables are zero.

        Two coins are both biased to heads, or both to tails: Cov = E[ab] − E[a] E[b] = 0.34 − 0.25.

        >>> import pcircuits as pc
        >>> a, b = pc.Bernoulli("a", [0.2, 0.8]), pc.Bernoulli("b", [0.2, 0.8])
        >>> pc.Circuit((a * b).sum([0.5, 0.5])).compile().covariance()
        tensor([[0.2500, 0.0900],
                [0.0900, 0.2500]])
        """
        return covariance(self._given())

    def quantile(self, level: float | Collection[float]) -> Tensor:
        """The least x with P(X_v <= x) >= level, (D,), or (B, D) given evidence; (Q, D) or (Q, B, D) for Q levels.

        Of each variable by itself. A variable that was observed has its value at every level.

        **Raises** `CircuitError` for a level outside of (0, 1).

        >>> import pcircuits as pc
        >>> pc.Circuit(pc.Normal("x", 10.0, 2.0) * pc.Categorical("c", [0.5, 0.2, 0.3])).compile().quantile([0.5, 0.6])
        tensor([[10.0000,  0.0000],
                [10.5067,  1.0000]])
        """
        return quantile(self._given(), level)

    def state_probabilities(self) -> dict[int | str, Tensor]:
        """P(X_v = s) of every state of every discrete variable: by its label, (S,), or (B, S) given evidence.

        All tables together cost one reverse pass. Left out are variables without a largest state, of which `quantile`
        and `probability` tell. An observed variable has 1 at its state.

        >>> import pcircuits as pc
        >>> a, b = pc.Bernoulli("a", [0.2, 0.8]), pc.Bernoulli("b", [0.2, 0.8])
        >>> coins = pc.Circuit((a * b).sum([0.5, 0.5])).compile()
        >>> coins.given({"a": 1}).state_probabilities()["b"]
        tensor([[0.3200, 0.6800]])
        """
        return state_probabilities(self._given())

    def marginal_modes(self) -> dict[int | str, Tensor]:
        """The most probable state of every discrete variable by itself: by its label, (), or (B,) given evidence.

        Together they may be impossible: the most probable joint assignment is `map`.

        >>> import pcircuits as pc
        >>> pc.Circuit(pc.Categorical("c", [0.2, 0.5, 0.3])).compile().marginal_modes()
        {'c': tensor(1.)}
        """
        return marginal_modes(self._given())

    def pairwise_probabilities(self, first: int | str, second: int | str) -> Tensor:
        """P(X = s, Y = t) of two discrete variables, (S, T), or (B, S, T) given evidence.

        **Raises** `CircuitError` for one variable twice, and for variables without finitely many states.

        >>> import pcircuits as pc
        >>> a, b = pc.Bernoulli("a", [0.2, 0.8]), pc.Bernoulli("b", [0.2, 0.8])
        >>> pc.Circuit((a * b).sum([0.5, 0.5])).compile().pairwise_probabilities("a", "b")
        tensor([[0.3400, 0.1600],
                [0.1600, 0.3400]])
        """
        return pairwise_probabilities(self._given(), first, second)

    def moment(self, k: int) -> Tensor:
        """E[X_v ** k], (D,), or (B, D) given evidence.

        >>> import pcircuits as pc
        >>> pc.Circuit(pc.Normal("x", 3.0, 2.0)).compile().moment(2)  # 3² + 2²
        tensor([13.])
        """
        return moment(self._given(), k)

    def expectation(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """E[f(X_v)] for each variable, (D,), or (B, D) given evidence; `f` acts elementwise.

        >>> import pcircuits as pc
        >>> three = pc.Circuit(pc.Categorical("x", [0.5, 0.25, 0.25])).compile()
        >>> three.expectation(lambda x: 10**x)  # 0.5 · 1 + 0.25 · 10 + 0.25 · 100
        tensor([28.])
        """
        return expectation(self._given(), f)

    def probability(self, lower: object, upper: object) -> Tensor:
        """P(lower <= X <= upper), one number, or (B,); a closed box with ends that may be infinite.

        Bounds are numbers, tensors (D,) or (B, D), or dicts from variables to bounds, where the others are free.

        >>> import pcircuits as pc
        >>> three = pc.Circuit(pc.Categorical("x", [0.5, 0.25, 0.25])).compile()
        >>> three.probability({"x": 1}, {"x": 2}).item()
        0.5
        """
        return self.log_probability(lower, upper).exp()

    def log_probability(self, lower: object, upper: object) -> Tensor:
        """log P(lower <= X <= upper), for boxes whose probability is too small for a float.

        Of the normalised distribution; add `log_prob` of a row of NaN for the mass under an unnormalised circuit.

        >>> import pcircuits as pc
        >>> coins = pc.Circuit(pc.Bernoulli(range(2000), 0.5).prod()).compile()
        >>> coins.probability(1, 1).item(), round(coins.log_probability(1, 1).item(), 1)  # 2000 · log 0.5
        (0.0, -1386.3)
        """
        return log_probability(self._given(), lower, upper)

    def map(self, exact: bool = True) -> Completion:
        """The most probable values of what is missing; see `Completion`.

        **Raises** `PropertyError` where the circuit is not deterministic, unless `exact=False`: then a completion with
        an upper bound on the log-probability of every other.

        >>> import pcircuits as pc
        >>> rain = 0.8 * (pc.Indicator("rain", 0) * pc.Bernoulli("wet", 0.1))
        >>> best = pc.Circuit(rain + 0.2 * (pc.Indicator("rain", 1) * pc.Bernoulli("wet", 0.9))).compile().map()
        >>> best.assignment, round(best.log_prob.exp().item(), 2)  # dry, without rain: 0.8 · 0.9
        (tensor([0., 0.]), 0.72)
        """
        return maximum(self._given(), exact)

    def marginal_map(self, variables: Variable | Iterable[Variable] | Tensor, exact: bool = True) -> Completion:
        """The most probable values of some variables, where all others that are missing are summed out.

        arg max_q p(q | given). In the answer's assignment, what was summed out is NaN. Each row of data may ask about
        variables of its own, as sequences of different lengths do.

        **Arguments**

        - `variables`: labels; or a mask, (D,) or (B, D), of what is wanted. What is given stays as it is.
        - `exact`: whether to raise where the answer is not known to be exact; else it comes with an upper bound, and
          `exact` of the answer says which rows are.

        **Raises** `PropertyError` where a sum over wanted variables is decided neither by one of them nor by the
        evidence; `EvidenceError` for a mask of another shape, and where an input unit over several variables would have
        to sum out some that are missing and maximise over others.

        Choi, Vergari and Van den Broeck (2020), *Probabilistic Circuits*, §7.

        Rain is the better guess, although the most probable of all four pairs is dry without rain.

        >>> import pcircuits as pc
        >>> wet = pc.Categorical("ground", [[0.6, 0.2, 0.2], [0.4, 0.3, 0.3]])
        >>> best = pc.Circuit((pc.Indicator("rain", [0, 1]) * wet).sum([0.45, 0.55])).compile().marginal_map("rain")
        >>> best.assignment, round(best.log_prob.exp().item(), 2)
        (tensor([1., nan]), 0.55)
        """
        return marginal_maximum(self._given(), variables, exact)

    def posterior(self, units: Units | Combination | Unit) -> Tensor:
        """P(a sum unit is used, and takes its input a | given): (A,) or (B, A) for one unit, (B, R, O, A) for an array.

        For the root of a mixture, the posterior of its components. Rows add to the probability that the unit is used.

        >>> import pcircuits as pc
        >>> root = pc.Bernoulli("a", [0.2, 0.8]).sum([0.5, 0.5])
        >>> pc.Circuit(root).compile().given({"a": 1}).posterior(root)  # in the proportion of 0.2 to 0.8
        tensor([[0.2000, 0.8000]])
        """
        return posterior(self._given(), units)

    def probabilities(self, variables: Variable | Iterable[Variable]) -> Tensor:
        """P(X_v = s | given) for some discrete variables, (V, S), or (B, V, S) given evidence.

        S is the largest number of states among these variables; what a variable does not have is 0. All of them come
        from one pass. With `pc.with_latents` they are the state probabilities of a hidden Markov model.

        **Arguments**

        - `variables`: V labels, or one.

        **Raises** `ScopeError` for labels that the model does not have; `CircuitError` for variables without a largest
        state.

        >>> import pcircuits as pc
        >>> a, b = pc.Bernoulli("a", [0.2, 0.8]), pc.Bernoulli("b", [0.2, 0.8])
        >>> coins = pc.Circuit((a * b).sum([0.5, 0.5])).compile()
        >>> coins.given({"a": 1}).probabilities(["a", "b"])
        tensor([[[0.0000, 1.0000],
                 [0.3200, 0.6800]]])
        """
        return probabilities(self._given(), variables)

    def expected_counts(self, x: EvidenceLike, weights: Tensor | None = None) -> dict[str, ParameterCounts]:
        """How often rows of data use each trainable parameter, by its name; see `ParameterCounts`.

        For a weight w_oi of a sum it is Σ_b w_b ∂ log p(x_b) / ∂ log w_oi: the number that expectation-maximisation
        divides by the others of its sum. `weights` (B,) are how much each row counts, 1 unless given.

        **Raises** `EvidenceError` naming rows of probability zero.

        >>> import pcircuits as pc
        >>> model = pc.Circuit(pc.mixture([0.5, 0.5], pc.Bernoulli("a", [0.2, 0.8]))).compile()
        >>> model.expected_counts({"a": [0, 1, 1]})["sum0.weights"].statistics[0]  # 0.8 + 2 · 0.2, and 0.2 + 2 · 0.8
        tensor([1.2000, 1.8000])
        """
        return counts_of(self._given(), x, weights)

    def given(self, evidence: EvidenceLike) -> Conditioned:
        """The model given evidence, which answers every query again; the first pass on the evidence is kept for them.

        **Raises** `EvidenceError` naming the rows whose evidence has probability zero.

        >>> import pcircuits as pc
        >>> a, b = pc.Bernoulli("a", [0.2, 0.8]), pc.Bernoulli("b", [0.2, 0.8])
        >>> given = pc.Circuit((a * b).sum([0.5, 0.5])).compile().given({"a": [0, 1]})
        >>> given.log_prob({"b": 1}).exp().detach()  # P(b | not a), P(b | a)
        tensor([0.3200, 0.6800])
        """
        return Conditioned(*self._given().with_evidence(evidence))  # type: ignore[arg-type]

    def labelled(self, answer: Tensor) -> dict[int | str, Tensor]:
        """Columns (..., D) of an answer by the labels of their variables, each (...).

        Two circuits may have the same variables in another order, as their factors were written in another order: a plain
        array means one thing to the one, and another to the other. Evidence as a dict, and answers by label, mean the
        same to both.
        """
        return self._given().columns.label(answer)

    def root(self, index: int | Tensor) -> Conditioned:
        """The model with one of its roots: an int, or (B,) integers, one for each row.

        >>> import pcircuits as pc
        >>> classes = pc.Circuit(pc.Bernoulli("a", [0.2, 0.8]).sum([[1.0, 0.0], [0.5, 0.5]])).compile()
        >>> classes.root(0).mean(), classes.root(torch.tensor([1, 0])).mean().flatten()
        (tensor([0.2000]), tensor([0.5000, 0.2000]))
        """
        given = self._given()
        count = given.circuit_asked.num_roots
        try:
            chosen = torch.as_tensor(index, device=given.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise CircuitError(f"a root is an int, or (B,) integers, not {index!r}") from error
        if chosen.ndim > 1 or chosen.dtype.is_floating_point or chosen.dtype == torch.bool:
            raise CircuitError(f"a root is an int, or (B,) integers, not {index!r}")
        if bool(((chosen < 0) | (chosen >= count)).any()):
            raise CircuitError(f"root {index!r} does not exist: the circuit has {count}, numbered from 0")
        return Conditioned(*given.with_root(chosen.to(torch.int64)))  # type: ignore[arg-type]


class Conditioned(Conditional, Queries):
    """A model given evidence, or from one of its roots; made by `given` and `root`."""

    def _given(self) -> Conditional:
        like = self.program.like
        if (self.dtype, self.device) != (like.dtype, like.device):
            raise CircuitError(
                f"the model was in {self.dtype} on {self.device} when this was asked of it, and is now in {like.dtype} on "
                f"{like.device}: ask for given(...), or root(...), again"
            )
        return self


class CompiledCircuit(nn.Module, Queries):
    """A circuit as an `nn.Module`: queries, `state_dict`, `to`, and training by gradients through `log_prob`."""

    def __init__(self, circuit: Circuit, program: Program) -> None:
        super().__init__()
        self._circuit = circuit
        self.program = program
        self._columns = variables_of(circuit)

    def _given(self) -> Conditional:
        return Conditional(self._circuit, self.program, self._columns)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CompiledCircuit:
        moved = fn(self.program.like)
        if moved.dtype not in (torch.float32, torch.float64):
            raise CircuitError(
                f"a model in {moved.dtype} cannot hold log-values: it is left in {self.program.like.dtype}. For mixed "
                "precision use torch.autocast, under which the model keeps its full precision"
            )
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def forward(self, x: EvidenceLike) -> Tensor:
        """`log_prob`, so that the model composes with what calls modules."""
        return self.log_prob(x)

    def to_circuit(self) -> Circuit:
        """The symbolic circuit with the values that parameters have now; untrained ones are the originals."""
        return trained_circuit(self._circuit, self.program)

    def __deepcopy__(self, memo: dict[int, object]) -> CompiledCircuit:
        """A model of its own for the same circuit, which never changes and is shared."""
        sources = (sourced.source for sourced in self._circuit.sourced())
        weights = (array.weights for array in self._circuit.sums)
        for shared in (self._circuit, *self._circuit.arrays, *self._circuit.parameters(), *weights, *sources):
            memo[id(shared)] = shared
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def extra_repr(self) -> str:
        return f"{self._circuit!r}, {len(self.program.layers)} layers"


@collector_paused()
def compile_circuit(
    circuit: Circuit,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    memory: int | None,
    rewrites: Collection[str] | None,
) -> CompiledCircuit:
    """`Circuit.compile`: check what evaluation needs, then build the program."""
    verdicts = circuit.check()
    remedy = "Mend the circuit at the witness; circuit.check() shows all verdicts."
    for verdict in (verdicts.smooth, verdicts.decomposable, verdicts.homogeneous):
        verdict.require("compile", remedy)
    chosen = torch.get_default_dtype() if dtype is None else dtype
    if chosen not in (torch.float32, torch.float64):
        raise CircuitError(
            f"dtype is torch.float32 or torch.float64, not {chosen}: half precision cannot hold log-values"
        )
    _require_digits(circuit, chosen)
    place = torch.get_default_device() if device is None else torch.device(device)
    with torch.inference_mode(False):  # parameters that autograd can use, wherever the model is made
        return CompiledCircuit(circuit, Program(circuit, chosen, place, memory, rewrites))


def _require_digits(circuit: Circuit, dtype: torch.dtype) -> None:
    """Raise `ParameterError` where rounding parameters to the dtype would change what they say."""
    for array in circuit.inputs:
        if isinstance(array.parameters, Sourced) or dtype == torch.float64:
            continue
        values = {name: parameter.value.to(torch.float64) for name, parameter in array.parameters.items()}
        if (lost := array.family.representable(values, dtype)) is not None:
            raise ParameterError(f"compile: {lost}")
