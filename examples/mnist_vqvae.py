"""Lower bounds that rise to a model's own likelihood: a VQ-VAE on MNIST with leaves over integers.

    python examples/mnist_vqvae.py --data-root data --download

The VQ-VAE's pixels are discretised logistics, so the circuit gives probabilities of the integer pixels themselves. With
weights p(z), any set of codes makes a lower bound of the model's likelihood; over nested sets it rises. Without
`--smoke`, training and judging take about a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import vq_sources as vq
from pcircuits.families import DiscretizedLogistic


def main(root: Path | None, download: bool, epochs: int, hidden: int, num_codes: int, images: int | None) -> None:
    data = vq.load("mnist", root=root, download=download)
    config = vq.VQVAEConfig(
        data_shape=(28, 28),
        levels=256,
        grid=(2, 2),
        num_codes=num_codes,
        family=DiscretizedLogistic(256),
        hidden=hidden,
    )
    model = vq.VQVAE(config, torch.Generator().manual_seed(0))
    settings = vq.FitSettings(epochs=epochs, learning_rate=2e-3, warmup=0.05, final_fraction=0.02)
    vq.fit(model, data, settings, progress=True)

    encoded = vq.encode(model, data)
    generator = torch.Generator().manual_seed(1)
    prior = vq.PixelCNN(encoded.grid, encoded.cardinalities, num_classes=10, hidden=32, generator=generator)
    vq.fit(prior, encoded, vq.FitSettings(epochs=epochs, learning_rate=3e-3))
    print(vq.codebook_report(encoded.train.codes, num_codes), end="\n\n")

    every = vq.selection.enumerate(prior)  # the most probable codes first, so that prefixes are nested
    size = 16
    print("     N   covered mass   bits per dimension (discrete), at most")
    while size < 4 * len(every):
        some = every.prefix(min(size, len(every)))
        bound = vq.metrics.discrete_bpd(
            vq.distil(model, some, weights="bound").compile(), data.test.images[:images], 256
        )
        print(f"{len(some):6,}   {some.covered_mass:12.3f}   {bound:.4f}")
        size *= 4
    print("The last one is no bound: it is the model's own.")


def stand_in(root: Path) -> None:
    """Write files like MNIST's under `root`, of scikit-learn's digits, three times as large and with a margin."""
    digits = vq.load("digits")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, split in (("train", digits.train), ("t10k", digits.test)):
        large = np.kron(split.images.numpy() * 255 // 16, np.ones((1, 3, 3), dtype=np.int64))
        pixels = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
        head = np.array([2051, *pixels.shape], dtype=">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = np.array([2049, len(pixels)], dtype=">i4").tobytes()
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(head + split.labels.numpy().astype(np.uint8).tobytes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="the folder that holds MNIST/raw; default: .data")
    parser.add_argument("--download", action="store_true", help="fetch the files if they are not there")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, on digits in the files of MNIST")
    arguments = parser.parse_args()
    if arguments.smoke:
        with tempfile.TemporaryDirectory() as folder:
            stand_in(Path(folder))
            main(Path(folder), False, epochs=1, hidden=16, num_codes=4, images=20)
    else:
        main(arguments.data_root, arguments.download, epochs=15, hidden=64, num_codes=11, images=None)
