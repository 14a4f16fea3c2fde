"""From images to a circuit: a VQ-VAE on digits, a prior over its codes, and the circuits that they make.

    python examples/digits_vqvae.py

Prints bits per dimension of circuits of growing size beside the exact model, which has a component for every code, and
draws what the exact model makes of the bottom half of digits into digits_inpainting.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import vq_sources as vq
from vq_sources.report import picture_inpainting


def main(epochs: int, codes: int, sizes: tuple[int, ...]) -> None:
    data = vq.load("digits")
    model = vq.VQVAE(vq.VQVAEConfig(grid=(2, 2), num_codes=codes), torch.Generator().manual_seed(0))
    settings = vq.FitSettings(epochs=epochs, batch_size=64, learning_rate=2e-3, warmup=0.05, final_fraction=0.02)
    print(f"the VQ-VAE's validation loss: {vq.fit(model, data, settings).best.validation_loss:.1f} nats")

    encoded = vq.encode(model, data)
    generator = torch.Generator().manual_seed(1)
    prior = vq.PixelCNN(encoded.grid, encoded.cardinalities, num_classes=10, hidden=32, generator=generator)
    vq.fit(prior, encoded, vq.FitSettings(epochs=min(20, epochs), learning_rate=3e-3))
    print(vq.codebook_report(encoded.train.codes, codes), end="\n\n")

    images = data.test.images
    print("     N   covered mass   bits per dimension (continuous)")
    chosen = vq.selection.stochastic_beam(prior, sizes[-1], generator=torch.Generator().manual_seed(2))
    for size in sizes:
        some = chosen.prefix(size)
        circuit = vq.distil(model, some, weights="prior", eager=True)
        print(f"{size:6,}   {some.covered_mass:12.3f}   {vq.metrics.continuous_bpd(circuit.compile(), images, 17):.3f}")

    every = vq.selection.enumerate(prior)
    exact = vq.distil(model, every, weights="bound", eager=True).compile()
    print(
        f"{len(every):6,}   {every.covered_mass:12.3f}   {vq.metrics.continuous_bpd(exact, images, 17):.3f}   exact model"
    )

    visible = torch.ones(8, 8, dtype=torch.bool)
    visible[4:] = False
    shown = vq.metrics.inpaint(exact, images[:6], visible, 17, generator=torch.Generator().manual_seed(3))
    picture_inpainting(shown, Path("digits_inpainting.png"), "digits: the bottom half given the top")
    print(f"\ndigits_inpainting.png: PSNR {shown.psnr:.1f} dB on the hidden half")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny model, a few epochs")
    if parser.parse_args().smoke:
        main(epochs=3, codes=6, sizes=(4, 16, 64))
    else:
        main(epochs=60, codes=16, sizes=(16, 64, 256, 1024, 4096))
