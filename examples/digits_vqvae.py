"""From scikit-learn's digits to a circuit: train a VQ-VAE and a prior, distil, and fill in what is missing.

    python examples/digits_vqvae.py            # a minute on two cores
    python examples/digits_vqvae.py --smoke    # seconds

It needs the extra `vq`. `vq-circuit demo` does the same with all selections, a table and pictures.
"""

from __future__ import annotations

import argparse

import torch

import vq_sources as vq


def main(smoke: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    data = vq.load("digits")

    model = vq.VQVAE(vq.VQVAEConfig(grid=(2, 2), num_codes=4 if smoke else 16), generator)
    schedule = {"batch_size": 64, "learning_rate": 2e-3, "warmup": 0.05, "final_fraction": 0.0}
    vq.fit(model, data, vq.FitSettings(epochs=2 if smoke else 60, **schedule))
    codes = vq.encode(model, data)
    print("codebook:", vq.codebook_report(codes.train.codes, model.config.num_codes))

    prior = vq.PixelCNN(codes.grid, codes.cardinalities, num_classes=10, hidden=32, generator=generator)
    vq.fit(prior, codes, vq.FitSettings(epochs=2 if smoke else 40, patience=10, learning_rate=3e-3))

    print(f"{'codes':>7} {'covered':>8} {'bits per pixel, continuous':>28} {'discrete':>9}")
    for n in (16, 64, 256) if smoke else (16, 256, 4096):
        chosen = vq.selection.stochastic_beam(prior, n, generator=generator)
        circuit = vq.distil(model, chosen, weights="prior", eager=True)
        compiled = circuit.compile()
        continuous = vq.metrics.continuous_bpd(compiled, data.test.images, data.levels)
        discrete = vq.metrics.discrete_bpd(compiled, data.test.images, data.levels)
        print(f"{n:>7} {chosen.covered_mass:>8.3f} {continuous:>28.3f} {discrete:>9.3f}")

    visible = torch.ones(data.shape, dtype=torch.bool)
    visible[4:] = False
    filled = vq.metrics.inpaint(compiled, data.test.images[:100], visible, data.levels, generator=generator)
    print(f"the lower half from the upper one: PSNR {filled.psnr:.1f} dB, {filled.conditional_bits:.2f} bits a pixel")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny settings, to see that it runs")
    main(parser.parse_args().smoke)
