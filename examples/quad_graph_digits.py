"""A quad graph over scikit-learn's digits: built in two lines, trained by gradients, sampled and asked to inpaint.

    python examples/quad_graph_digits.py            # under a minute on two cores
    python examples/quad_graph_digits.py --smoke    # five seconds

Prints bits per dimension and draws samples, and inpaintings of the lower half, into quad_graph_digits.png. It needs the
extra `vq`, for scikit-learn, the training loop and matplotlib.
"""

from __future__ import annotations

import argparse
import math

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import pcircuits as pc
from pcircuits.learning import EpochRecord, FitSettings, fit
from pcircuits.structures import discretized_logistic_leaves, layered, quad_graph

SIDE, LEVELS = 8, 17
PICTURE = "quad_graph_digits.png"


def load(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test rows of 64 pixels, integers 0..16."""
    pixels = torch.as_tensor(load_digits().data).float()
    pixels = pixels[torch.randperm(len(pixels), generator=generator)]
    train, validation, test = pixels.split([1200, 237, 360])
    return train, validation, test


def bits(log_prob: Tensor) -> float:
    """Bits per dimension of the integers: -log2 p(x) / 64."""
    return -log_prob.mean().item() / math.log(2) / SIDE**2


def report(epoch: EpochRecord) -> None:
    if epoch.epoch % 5 == 0:
        train, validation = (bits(-torch.tensor(loss)) for loss in (epoch.train_loss, epoch.validation_loss))
        print(f"epoch {epoch.epoch:3}: bits per dimension {train:.3f} in training, {validation:.3f} in validation")


def draw(rows: list[tuple[str, Tensor]]) -> None:
    """A picture of rows of images (n, 64), each with its name; what is missing is blue."""
    columns = max(len(images) for _, images in rows)
    figure, axes = plt.subplots(len(rows), columns, figsize=(0.75 * columns, 0.95 * len(rows)), squeeze=False)
    shades = plt.get_cmap("gray_r").with_extremes(bad="lightsteelblue")
    for line, (name, images) in zip(axes, rows, strict=True):
        line[0].set_title(name, loc="left", fontsize=8)
        for axis in line:
            axis.set_axis_off()
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image.view(SIDE, SIDE), cmap=shades, vmin=0, vmax=LEVELS - 1)
    figure.tight_layout(pad=0.3)
    figure.savefig(PICTURE, dpi=150)
    plt.close(figure)


def main(smoke: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    train, validation, test = load(generator)
    graph = quad_graph(SIDE, SIDE)
    leaves = discretized_logistic_leaves(LEVELS, scale=0.1, share=0.001)
    circuit = layered(graph, leaves, 4 if smoke else 32, generator=generator)
    print(f"{graph}\n{circuit.summary()}")

    model: pc.CompiledCircuit = circuit.compile()
    with torch.no_grad():
        print(f"test bits per dimension before training: {bits(model.log_prob(test)):.3f}")
    settings = FitSettings(epochs=1 if smoke else 30, batch_size=50, learning_rate=0.05, final_fraction=0.05)
    history = fit(model, train, validation, settings=settings, on_epoch=report)
    with torch.no_grad():
        print(f"test bits per dimension: {bits(model.log_prob(test)):.3f} (epoch {history.best.epoch})")

    shown = test[:12]
    hidden = shown.clone()
    hidden[:, SIDE * SIDE // 2 :] = torch.nan
    given = model.given(hidden)
    samples = model.sample(36, generator)
    inpainted = given.sample(2, generator)
    draw(
        [
            ("training images", train[:12]),
            *((("samples", "", "")[i], samples[12 * i : 12 * (i + 1)]) for i in range(3)),
            ("test images", shown),
            ("what is seen", hidden),
            ("conditional mean", given.mean()),
            ("two conditional samples", inpainted[0]),
            ("", inpainted[1]),
        ]
    )
    log_prob = given.log_prob(shown)
    print(f"the lower half given the upper: {2 * bits(log_prob.detach()):.3f} bits per hidden pixel")
    print(f"{PICTURE}: samples, and the lower half drawn given the upper")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a narrow circuit and one epoch, to see that it runs")
    main(parser.parse_args().smoke)
