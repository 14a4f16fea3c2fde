"""Random circuits against the oracle, as many as one likes; not part of the tests, but for a few.

    python tests/fuzz.py --circuits N [--seed S] [--state FILE]
    python tests/fuzz.py --only INDEX --seed S          # one of them again, with its traceback

Each index draws a circuit (of all families, with sharing, depth, ties, zeros and extreme weights; or of a structure,
with weights and leaves far apart), a way to compile it (dtype, rewrites, bound on memory), perhaps a trip through a file,
training or normalisation, and rows of evidence. Then `log_prob`, conditionals, boxes, means, variances,
covariances, tables, quantiles, posteriors, samples and completions are compared with the oracle: |error| <=
1e-9·max(1, |log p|) in float64, 1e-4 in float32. With
`--state`, the run is written down as it goes (whole, or not at all), and goes on from there when it is started again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pcircuits as pc
from pcircuits.program.rewrites import DEFAULT
from pcircuits.scope import Variable
from pcircuits.testing import Agreement, Oracle
from pcircuits.testing.drawing import Seeded, draw_circuit, draw_deterministic, draw_layered, draw_rows

__all__ = ["Failure", "Run", "attempt", "main"]

SAVE_EVERY = 5.0
"""Seconds between two writes of the state."""


@dataclass(frozen=True)
class Failure:
    """A circuit on which something went wrong: its number, the kind of error, and its first line."""

    index: int
    error: str
    message: str


@dataclass
class Run:
    """How far a run has come: what the state file holds."""

    seed: int
    next: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None, seed: int) -> Run:
        """The run of a state file, or a new one. **Raises** `ValueError` where the file is of another seed."""
        if path is None or not path.exists():
            return cls(seed)
        held = json.loads(path.read_text())
        if held["seed"] != seed:
            raise ValueError(f"{path} is of a run with --seed {held['seed']}, not {seed}: name another file")
        return cls(**{**held, "failures": [Failure(**failure) for failure in held["failures"]]})

    def write(self, path: Path | None) -> None:
        """The state file, whole or not at all."""
        if path is None:
            return
        beside = path.with_name(path.name + ".part")
        beside.write_text(json.dumps(asdict(self), indent=1))
        os.replace(beside, path)


@dataclass(frozen=True)
class Way:
    """How a circuit is compiled."""

    dtype: torch.dtype
    rewrites: tuple[str, ...] | None
    memory: int | None

    @classmethod
    def draw(cls, choices: Seeded) -> Way:
        rewrites = None if choices.flag() else tuple(name for name in DEFAULT if choices.flag())
        dtype = torch.float32 if choices.integer(0, 3) == 3 else torch.float64
        return cls(dtype, rewrites, (None, None, 1, 3000)[choices.integer(0, 3)])


def attempt(seed: int, index: int) -> str:
    """Everything about one circuit. **Raises** whatever goes wrong; says what was drawn."""
    choices = Seeded(seed, index)
    circuit = _circuit(choices)
    way = Way.draw(choices)
    circuit, told = _travelled(circuit, choices)
    oracle = Oracle(circuit)
    numbers = np.random.default_rng((seed, index, 1))
    agreement = Agreement(circuit.compile(dtype=way.dtype, rewrites=way.rewrites, memory=way.memory), oracle)
    rows = draw_rows(oracle, (0, 1, 1, 2, 5)[choices.integer(0, 4)], numbers).to(way.dtype)
    with torch.no_grad():
        agreement.log_prob(rows)
        known, asked = (oracle.row(row) for row in draw_rows(oracle, 2, numbers).to(way.dtype).double().tolist())
        root = choices.integer(0, circuit.num_roots - 1)
        for label in list(known):
            if oracle.log_value(known, root) == -math.inf:
                del known[label]
        _queries(agreement, known, asked, root, choices)
        if len(rows) > 1 or choices.flag():
            _batches(agreement, rows, root)
    return f"{circuit.summary()}; {told}; {way}"


def _circuit(choices: Seeded) -> pc.Circuit:
    which = choices.integer(0, 5)
    if which == 5:
        return draw_deterministic(choices)
    if which > 2:
        return draw_layered(choices)
    return draw_circuit(choices, max_variables=choices.integer(1, 6), max_roots=3)


def _travelled(circuit: pc.Circuit, choices: Seeded) -> tuple[pc.Circuit, str]:
    """The circuit as it is, or through a file, through a model, or normalised: each gives an equal one, or its own."""
    which = choices.integer(0, 5)
    if which == 0:
        with tempfile.TemporaryDirectory() as folder:
            pc.save(circuit, Path(folder) / "c.pc")
            return pc.load(Path(folder) / "c.pc"), "saved and loaded"
    if which == 1:
        return circuit.compile(dtype=torch.float64).to_circuit(), "compiled and back"
    if which == 2:
        return pc.normalise(circuit), "normalised"
    return circuit, "as drawn"


def _queries(
    agreement: Agreement, known: dict[Variable, float], asked: dict[Variable, float], root: int,
    choices: Seeded,
) -> None:  # fmt: skip
    """What is always asked, and one thing more."""
    rest = {label: value for label, value in asked.items() if label not in known}
    agreement.conditional(known, rest, root)
    agreement.mean(known, root)
    agreement.samples(known, 3, torch.Generator().manual_seed(choices.integer(0, 2**31)), root)
    which = choices.integer(0, 7)
    if which == 0:
        agreement.box(rest, {}, known, root)
        agreement.box({}, rest, known, root)
    elif which == 1:
        agreement.statistics(known, root)
    elif which == 2:
        agreement.posteriors(known, root, arrays=1)
    elif which == 3:
        agreement.covariance(known, root)
    elif which == 4:
        agreement.tables(known, root)
    elif which == 5:
        agreement.quantiles(known, (0.01, 0.3, 0.5, 0.98)[choices.integer(0, 3)], root)
    else:
        agreement.completion(known, root)


def _batches(agreement: Agreement, rows: Tensor, root: int) -> None:
    """Rows together answer as they do one by one; no rows have an empty answer."""
    model, oracle = agreement.model, agreement.oracle
    possible = [row for row in rows if oracle.log_value(oracle.row(row.double().tolist()), root) > -math.inf]
    kept = torch.stack(possible) if possible else rows[:0]
    together = model.root(root).given(kept).mean()
    if together.shape != kept.shape:
        raise AssertionError(f"the mean given {len(kept)} rows has the shape {tuple(together.shape)}")
    for row, mean in list(zip(kept, together, strict=True))[-1:]:
        alone = model.root(root).given(row.unsqueeze(0)).mean()[0]
        size = 1.0 + alone.abs().max()
        exponent = 1.0 + abs(oracle.log_value(oracle.row(row.double().tolist()), root))
        digits = (1e-4 if alone.dtype == torch.float32 else 1e-9) * exponent
        if not bool(((alone - mean).abs() <= digits * size).all()):
            raise AssertionError(
                f"the mean given one of several rows is {mean.tolist()}, given it alone {alone.tolist()}"
            )


def _one(run: Run, index: int) -> Failure | None:
    try:
        attempt(run.seed, index)
    except Exception as error:  # whatever goes wrong is what this looks for
        first = (str(error).splitlines() or [""])[0][:300]
        return Failure(index, type(error).__name__, first)
    return None


def _go(run: Run, circuits: int, path: Path | None) -> None:
    begin = told = saved = time.perf_counter()
    before, first = run.seconds, run.next
    try:
        while run.next < circuits:
            failure = _one(run, run.next)
            if failure is not None:
                run.failures.append(failure)
                print(f"{failure.error}: {failure.message}\n    {_reproduction(run, failure)}", flush=True)
            run.next += 1
            now = time.perf_counter()
            run.seconds = before + now - begin
            if now - saved > SAVE_EVERY:
                run.write(path)
                saved = now
            if now - told > 4 * SAVE_EVERY:
                rate = (run.next - first) / (now - begin)
                print(
                    f"{run.next:,} of {circuits:,} circuits, {rate:.0f} a second, {len(run.failures)} failures",
                    flush=True,
                )
                told = now
    finally:
        run.write(path)


def _reproduction(run: Run, failure: Failure) -> str:
    return f"python tests/fuzz.py --only {failure.index} --seed {run.seed}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its answer is the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s --circuits N [options]",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--circuits", type=int, metavar="N", help="how many circuits, from number 0")
    what.add_argument("--only", type=int, metavar="INDEX", help="one of them, with what was drawn and the traceback")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the whole run (%(default)s)")
    parser.add_argument("--state", type=Path, metavar="FILE", help="where the run is written down, to go on from")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if chosen.only is not None:
        return _again(chosen.seed, chosen.only)
    try:
        run = Run.read(chosen.state, chosen.seed)
    except ValueError as error:
        parser.error(str(error))
    _go(run, chosen.circuits, chosen.state)
    kinds = ", ".join(sorted({failure.error for failure in run.failures}))
    print(
        f"{run.next:,} circuits in {run.seconds:.0f} s ({run.next / max(run.seconds, 1e-9):.0f} a second), seed {run.seed}: "
        f"{len(run.failures)} failures{f' ({kinds})' if kinds else ''}"
    )
    for failure in run.failures:
        print(f"    {_reproduction(run, failure)}    # {failure.error}: {failure.message}")
    return 1 if run.failures else 0


def _again(seed: int, index: int) -> int:
    try:
        print(attempt(seed, index))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
