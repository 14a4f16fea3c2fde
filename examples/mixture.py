"""A mixture of Normals over the pixels of scikit-learn's digits: written as arrays, trained by gradients, then asked.

    python examples/mixture.py            # ten seconds on two cores
    python examples/mixture.py --smoke    # two seconds

It needs the extra `learn`, for scikit-learn and the training loop.
"""

from __future__ import annotations

import argparse
import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor

import pcircuits as pc
from pcircuits.learning import FitSettings, fit

LEVELS = 17
SHADES = " .:-=+*#%@"


def load(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test rows of 64 pixels, (v + u) / 17 with u ~ U[0, 1)."""
    pixels = torch.as_tensor(load_digits().data)
    pixels = pixels[torch.randperm(len(pixels), generator=generator)]
    x = (pixels + torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype)) / LEVELS
    train, validation, test = x.float().split([1200, 237, 360])
    return train, validation, test


def mixture(train: Tensor, components: int, generator: torch.Generator) -> pc.Circuit:
    """Σ_k w_k Π_v N(x_v; loc_vk, scale_vk); components start at training images."""
    start = train[torch.randperm(len(train), generator=generator)[:components]].T  # (64, K)
    pixels = pc.Normal(range(64), start, torch.full_like(start, 0.3))  # (64, K) units
    weights = torch.full((components,), 1 / components)
    return pc.Circuit(pc.mixture(weights, pixels.prod()))  # prod is (1, K), the mixture (1, 1)


def bits(log_prob: Tensor) -> float:
    """Bits per pixel: the density of (v + u) / L bounds the mass of the integers v."""
    return -log_prob.mean().item() / math.log(2) / 64 + math.log2(LEVELS)


def show(title: str, columns: list[tuple[str, Tensor]]) -> None:
    """Images side by side, as characters."""
    print(f"\n{title}")
    print("  ".join(f"{name:<16}" for name, _ in columns))
    for row in range(8):
        print("  ".join("".join(_shade(v) for v in image.view(8, 8)[row].tolist()) for _, image in columns))


def _shade(value: float) -> str:
    return 2 * ("?" if math.isnan(value) else SHADES[min(max(int(value * len(SHADES)), 0), len(SHADES) - 1)])


def main(smoke: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    train, validation, test = load(generator)
    circuit = mixture(train, 8 if smoke else 128, generator)
    print(circuit.summary())

    model = circuit.compile()
    before = bits(model.log_prob(test).detach())
    settings = FitSettings(epochs=2 if smoke else 30, batch_size=100, learning_rate=0.03, final_fraction=0.05)
    history = fit(model, train, validation, settings=settings)
    after = bits(model.log_prob(test).detach())
    print(f"test bits per pixel: {before:.3f} before training, {after:.3f} after (best epoch {history.best.epoch})")

    half = test[:3].clone()
    half[:, 32:] = torch.nan
    given = model.given(half)
    mean, drawn, log_prob = given.mean(), given.sample(1, generator)[0], given.log_prob(test[:3])
    for i in range(3):
        names = ("original", "what is seen", "conditional mean", "a sample")
        images = (test[i], half[i], mean[i], drawn[i])
        show(f"log p(lower half | upper half) = {log_prob[i].item():.1f}", list(zip(names, images, strict=True)))

    posterior = given.posterior(model.circuit.root)  # (3, K)
    print()
    for i, (share, k) in enumerate(zip(*posterior.max(1), strict=True)):
        print(f"image {i}: component {k.item()} explains its upper half with probability {share.item():.3f}")

    trained = model.to_circuit()
    upper = pc.marginalize(trained, range(32, 64))
    print(f"the marginal of the upper half is a circuit too: {upper}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny mixture and two epochs, to see that it runs")
    main(parser.parse_args().smoke)
