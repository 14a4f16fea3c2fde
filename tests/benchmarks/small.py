"""What one question costs where there is almost nothing to compute: one row of a circuit of two variables.

    python -m tests.benchmarks.small --out docs/results/small.json

Such a call is all overhead: reading evidence, walking over a few layers, and shaping the answer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

import pcircuits as pc
from tests.benchmarks.measure import Cell, Report, medians, options, settings_of

CALLS = 200
"""How many calls are timed together."""


def model_of(device: torch.device) -> pc.CompiledCircuit:
    """Rain, and whether the street is wet: deterministic, so that every query has an answer."""
    wet = [pc.Bernoulli("wet", 0.1), pc.Bernoulli("wet", 0.9)]
    circuit = pc.Circuit(0.8 * (pc.Indicator("rain", 0) * wet[0]) + 0.2 * (pc.Indicator("rain", 1) * wet[1]))
    return circuit.compile(torch.float32, device)


def questions(model: pc.CompiledCircuit, device: torch.device) -> dict[str, Callable[[], object]]:
    """What is asked of one row."""
    row, partly = torch.tensor([[0.0, 1.0]], device=device), torch.tensor([[torch.nan, 1.0]], device=device)
    generator = torch.Generator().manual_seed(0)
    given = model.given(partly)

    def step() -> None:
        with torch.enable_grad():
            model.log_prob(row).sum().backward()

    return {
        "log_prob(row)": lambda: model.log_prob(row),
        "log_prob(row), one variable missing": lambda: model.log_prob(partly),
        "log_prob(row), and backward": step,
        "given(row)": lambda: model.given(partly),
        "mean() given the row": given.mean,
        "sample(1) given the row": lambda: given.sample(1, generator=generator),
        "map() given the row": given.map,
    }


def repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    """Many calls as one."""

    def run() -> None:
        for _ in range(times):
            call()

    return run


def main() -> None:
    arguments = options(__doc__ or "", repeats=9).parse_args()
    settings = settings_of(arguments)
    calls = 3 if settings.smoke else CALLS
    report = Report.start("small", settings)
    model = model_of(settings.device)
    with torch.no_grad():
        runs = {name: repeated(call, calls) for name, call in questions(model, settings.device).items()}
        taken = medians(runs, settings.repeats, settings.device)
    rows: list[list[Cell]] = [[name, 1e6 * seconds / calls] for name, seconds in taken.items()]
    report.add(f"One row, two variables, float32 on {settings.device}", ["", "microseconds"], rows)
    report.finish(settings)


if __name__ == "__main__":
    main()
