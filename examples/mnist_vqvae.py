"""MNIST or Fashion-MNIST to a circuit, with the decoder streamed: 28 × 28 pixels, a 2 × 2 grid of codes.

    python examples/mnist_vqvae.py --data-root DIR --download [--dataset fashion]    # half an hour on two cores
    python examples/mnist_vqvae.py --smoke     # seconds: digits stand in, enlarged to 28 × 28, and nothing is read

It needs the extra `vq`. `vq-circuit demo --dataset mnist --data-root DIR` does more, with a table and pictures.
"""

from __future__ import annotations

import argparse

import torch

import vq_sources as vq
from vq_sources.data import Split


def stand_in() -> vq.Dataset:
    """Digits enlarged to 28 × 28 and 256 levels: the shape of MNIST without its files."""
    digits = vq.load("digits")

    def enlarged(split: Split, n: int) -> Split:
        images = (split.images[:n] * 255 // 16).repeat_interleave(3, 1).repeat_interleave(3, 2)
        return Split(torch.nn.functional.pad(images, (2, 2, 2, 2)), split.labels[:n])

    return vq.Dataset(
        "stand-in",
        256,
        (28, 28),
        10,
        enlarged(digits.train, 200),
        enlarged(digits.validation, 50),
        enlarged(digits.test, 20),
    )


def main(dataset: str, data_root: str | None, download: bool, smoke: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    data = stand_in() if smoke else vq.load(dataset, root=data_root, download=download)

    config = vq.VQVAEConfig(
        data_shape=data.shape, levels=data.levels, grid=(2, 2), num_codes=4 if smoke else 11, min_std=0.005
    )
    model = vq.VQVAE(config, generator)
    schedule = {"learning_rate": 2e-3, "warmup": 0.05, "final_fraction": 0.0}
    vq.fit(model, data, vq.FitSettings(epochs=1 if smoke else 8, **schedule), progress=not smoke)
    codes = vq.encode(model, data)
    print("codebook:", vq.codebook_report(codes.train.codes, config.num_codes))

    prior = vq.PixelCNN(codes.grid, codes.cardinalities, num_classes=10, hidden=32, generator=generator)
    vq.fit(prior, codes, vq.FitSettings(epochs=1 if smoke else 10, **schedule))

    chosen = vq.selection.enumerate(prior, 64 if smoke else None)  # every code: the exact model
    circuit = vq.distil(model, chosen, weights="bound")
    print(circuit.summary())
    compiled = circuit.compile()
    images = data.test.images[:1000]
    print(
        f"{len(chosen)} codes, {vq.metrics.continuous_bpd(compiled, images, data.levels):.3f} bits per pixel (continuous)"
    )

    visible = torch.ones(data.shape, dtype=torch.bool)
    visible[14:] = False
    filled = vq.metrics.inpaint(compiled, images[:20], visible, data.levels, generator=generator)
    print(f"the lower half from the upper one: PSNR {filled.psnr:.1f} dB, {filled.conditional_bits:.2f} bits a pixel")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=("mnist", "fashion"), default="mnist")
    parser.add_argument("--data-root", help="the folder of torchvision's files")
    parser.add_argument("--download", action="store_true", help="fetch them first")
    parser.add_argument("--smoke", action="store_true", help="tiny settings on a stand-in, to see that it runs")
    arguments = parser.parse_args()
    main(arguments.dataset, arguments.data_root, arguments.download, arguments.smoke)
