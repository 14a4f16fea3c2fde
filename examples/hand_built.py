"""The sprinkler network as a circuit built by hand, and the questions it answers exactly.

    python examples/hand_built.py

Clouds make rain likely and the sprinkler unlikely; either of them makes the grass wet. The temperature is a Normal
whose mean depends on the clouds, so the circuit mixes discrete and continuous variables.
"""

from __future__ import annotations

import argparse

import torch

import pcircuits as pc

CLOUDY, SPRINKLER, RAIN = 0.5, {0: 0.5, 1: 0.1}, {0: 0.2, 1: 0.8}
WET = {(0, 0): 0.0, (0, 1): 0.9, (1, 0): 0.9, (1, 1): 0.99}
TEMPERATURE = {0: (24.0, 3.0), 1: (17.0, 4.0)}


def sprinkler() -> pc.Circuit:
    """p(cloudy) p(temperature | cloudy) p(sprinkler | cloudy) p(rain | cloudy) p(wet | sprinkler, rain)."""
    # One unit for each cell of each table; what is used twice below is shared, not copied.
    cloudy, sprinkler, rain = ([pc.Indicator(name, s) for s in (0, 1)] for name in ("cloudy", "sprinkler", "rain"))
    temperature = [pc.Normal("temperature", *TEMPERATURE[c]) for c in (0, 1)]
    garden = {(s, r): sprinkler[s] * rain[r] * pc.Bernoulli("wet", WET[s, r]) for s in (0, 1) for r in (0, 1)}
    # p(sprinkler, rain, wet | cloudy): for each state of the clouds, one sum over those of sprinkler and rain.
    below = [sum(_of(SPRINKLER[c], s) * _of(RAIN[c], r) * garden[s, r] for s, r in garden) for c in (0, 1)]
    root = sum(_of(CLOUDY, c) * (cloudy[c] * temperature[c] * below[c]) for c in (0, 1))
    return pc.Circuit(root, variables=["cloudy", "sprinkler", "rain", "wet", "temperature"])


def _of(probability: float, state: int) -> float:
    """P(state), where `probability` is that of state 1."""
    return probability if state else 1 - probability


@torch.no_grad()
def main() -> None:
    circuit = sprinkler()
    print(circuit.summary(), end="\n\n")
    print(circuit.check(), end="\n\n")

    model = circuit.compile(dtype=torch.float64)
    column = {name: i for i, name in enumerate(circuit.variables)}

    def rain_given(**evidence: float) -> float:
        return model.given(evidence).mean()[0, column["rain"]].item()

    print(f"P(rain)                           {model.mean()[column['rain']]:.4f}")
    print(f"P(rain | wet)                     {rain_given(wet=1):.4f}")
    print(f"P(rain | wet, sprinkler)          {rain_given(wet=1, sprinkler=1):.4f}   the sprinkler explains it away")
    print(f"P(rain | wet, 15 degrees)         {rain_given(wet=1, temperature=15.0):.4f}   a cool day speaks for clouds")

    wet = model.given({"wet": 1})
    mean, deviation = wet.mean()[0, -1], wet.variance()[0, -1].sqrt()
    print(f"temperature | wet                 {mean:.2f} ± {deviation:.2f}")
    warm = model.given({"wet": 1}).probability({"temperature": 20.0}, {"temperature": 25.0})
    print(f"P(20 <= temperature <= 25 | wet)  {warm.item():.4f}")

    best = wet.map()
    values = dict(zip(circuit.variables, best.assignment[0].tolist(), strict=True))
    print(f"most probable, given wet          {values}, log-density {best.log_prob.item():.4f}")

    print("\nsix days on which the grass is wet:")
    for row in wet.sample(6, generator=torch.Generator().manual_seed(4))[:, 0].tolist():
        said = [name for name, value in zip(circuit.variables[:3], row, strict=False) if value]
        print(f"  {row[-1]:5.1f} degrees, {', '.join(said) or 'dew'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="changes nothing: this example is small as it is")
    parser.parse_args()
    main()
