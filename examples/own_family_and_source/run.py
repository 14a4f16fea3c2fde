"""Weeks of visits: a continuous mixture of families of one's own, whose network is trained through the circuit.

python examples/own_family_and_source/run.py            # five seconds
python examples/own_family_and_source/run.py --smoke    # two
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from visits import RateDecoder, ZeroInflatedPoisson

import pcircuits as pc

CLOSED = 0.1
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def weeks(n: int, generator: torch.Generator) -> Tensor:
    """Weeks between two kinds, busy before the weekend and busy on it; one day in ten is closed."""
    t = torch.rand(n, 1, generator=generator)
    work, rest = torch.tensor([6.0, 6, 7, 8, 12, 2, 1]), torch.tensor([1.0, 1, 2, 2, 6, 14, 11])
    visits = torch.poisson((1 - t) * work + t * rest, generator)
    return torch.where(torch.rand(visits.shape, generator=generator) < CLOSED, 0.0, visits)


def circuit(points: int, generator: torch.Generator) -> pc.Circuit:
    """Σ_k 1/K Π_v p(x_v; rate_v(z_k))."""
    rates = pc.Sourced(RateDecoder(len(DAYS), points, generator=generator), len(DAYS), points)
    return pc.Circuit(pc.inputs(ZeroInflatedPoisson(CLOSED), DAYS, rates).prod().sum(torch.full((points,), 1 / points)))


def main(smoke: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = weeks(500, generator), weeks(200, generator)
    model = circuit(8 if smoke else 32, generator).compile()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for step in range(20 if smoke else 200):
        optimiser.zero_grad()
        loss = -model.log_prob(train).mean()
        loss.backward()
        optimiser.step()
        if step % (10 if smoke else 50) == 0:
            print(f"step {step:3d}: {loss.item():6.3f} nats a week")
    with torch.no_grad():
        alone = ZeroInflatedPoisson(CLOSED).log_density(test, {"rate": train.mean(0) / (1 - CLOSED)}).sum(1).mean()
        print(f"test: {-model.log_prob(test).mean().item():.3f} nats a week; {-alone.item():.3f} with days independent")
        for friday, saturday in ((14.0, 2.0), (4.0, 15.0)):
            mean = model.given({"Fri": friday, "Sat": saturday}).mean()[0]
            told = ", ".join(f"{day} {value:.1f}" for day, value in zip(DAYS, mean.tolist(), strict=True))
            print(f"given {friday:.0f} on Friday and {saturday:.0f} on Saturday: {told}")
        quiet = model.given({"Sat": 2.0}).probability({}, {"Sun": 3.0}).item()
        print(f"P(at most 3 on Sunday | 2 on Saturday) = {quiet:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few components and steps, to see that it runs")
    main(parser.parse_args().smoke)
