"""All codes of a VQ model as one circuit, then trained as a circuit; beside it, the same structure from k-means.

    python examples/composed_patches.py                                        # digits, a minute or two
    python examples/composed_patches.py --dataset mnist --data-root DIR        # with the files in DIR

A PatchVQVAE decodes each patch from a code of its own. With a tree over the codes it composes to an exact circuit: the sum over
all grids, which nobody could list. The same tree with inputs counted in the training images (each patch under its code) is
where EM starts, and the tokens' network is left behind. Prints discrete bits per dimension of the test images.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor

import pcircuits as pc
import vq_sources as vq
from pcircuits import structures
from pcircuits.learning import EMSettings, Falling, Stepwise, em


def bits(circuit: pc.Circuit | pc.CompiledCircuit, data: vq.Dataset) -> float:
    """Discrete bits per dimension of the test images."""
    model = circuit.compile() if isinstance(circuit, pc.Circuit) else circuit
    return vq.metrics.discrete_bpd(model, data.test.images, data.levels)


def own_code(model: vq.PatchVQVAE, prior: vq.CircuitPrior, data: vq.Dataset, codes: Tensor) -> float:
    """What images cost under the one code that the encoder gives them, with the code paid for."""
    with torch.no_grad():
        pixels = [
            model.family.log_density(x.flatten(1).float(), model.likelihood(z)).sum(1)
            for x, z in zip(data.test.images.split(500), codes.split(500), strict=True)
        ]
        nats = -(torch.cat(pixels) + prior.log_prob(codes)).mean()
    return nats.item() / math.log(2) / data.test.images[0].numel()


def counted(
    tree: nx.Graph, patches: Sequence[Sequence[int]], data: vq.Dataset, latents: Tensor, width: int
) -> pc.Circuit:
    """The tree over patches, with weights and levels counted in the training images whose latents are given."""
    cells = nx.Graph(variables=tuple(range(data.train.images[0].numel())))
    for position, patch in enumerate(patches):
        cells.add_node(position, scope=tuple(patch))
    cells.add_edges_from(tree.edges)
    start = structures.counted_start(data.train.images.flatten(1), latents, rows=3.0)
    leaves, generator = structures.categorical_leaves(data.levels), torch.Generator().manual_seed(0)
    return structures.hidden_tree(cells, leaves, width, start=start, generator=generator)


def main(name: str, root: str | None, side: int, codes: int, epochs: int, em_epochs: int) -> None:
    data = vq.load(name, root=root)
    height, width = data.shape
    began = time.perf_counter()

    def say(what: str, value: float) -> None:
        print(f"{value:.4f}   {what} ({time.perf_counter() - began:.0f} s)", flush=True)

    config = vq.PatchVQVAEConfig(
        data_shape=data.shape,
        levels=data.levels,
        grid=(height // side, width // side),
        num_codes=codes,
        hidden=32,
        hidden_at_image=8,
        family=pc.families.DiscretizedLogistic(data.levels),
        min_std=0.5 / data.levels,
        position_dim=4,
    )
    model = vq.PatchVQVAE(config, torch.Generator().manual_seed(0))
    vq.fit(model, data, vq.FitSettings(epochs=epochs, learning_rate=2e-3))
    encoded = vq.encode(model, data)
    print(vq.codebook_report(encoded.train.codes, codes))

    images = data.train.images.flatten(1)
    shades = images[:, torch.tensor(model.patches)].float().mean(2) * 8 / data.levels  # eight shades of each patch
    tree = structures.chow_liu_tree(shades.long())
    circuit = structures.observed_tree(tree, encoded.train.codes)
    prior = vq.CircuitPrior(circuit, encoded.grid, codes)
    say("an image's own code, paid for", own_code(model, prior, data, encoded.test.codes))
    say(f"composed: all {codes}^{len(model.patches)} codes", bits(vq.compose(model, prior), data))

    generator = torch.Generator().manual_seed(0)
    clusters = structures.cluster_states(images, model.patches, codes, generator=generator, rows=5000)
    settings = EMSettings(
        epochs=em_epochs,
        batch_size=min(1000, len(images) // 4),
        averaging=Stepwise(Falling(0.3, 0.03)),
        pseudocount=0.05,
    )
    for latents, of_what in ((encoded.train.codes, "codes"), (clusters.long(), "k-means of the patches")):
        compiled = counted(tree, model.patches, data, latents, codes).compile()
        say(f"the same tree, counted from {of_what}", bits(compiled, data))
        em(compiled, images, data.validation.images[:2000].flatten(1), settings=settings)
        say(f"and after {em_epochs} passes of EM", bits(compiled, data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", choices=["digits", "mnist", "fashion"])
    parser.add_argument("--data-root", default=None, help="where the files of MNIST and Fashion-MNIST are")
    parser.add_argument("--patch", type=int, default=2, help="pixels on a side of a patch")
    parser.add_argument("--codes", type=int, default=None, help="codes of the codebook, and states of the tree")
    parser.add_argument("--epochs", type=int, default=None, help="of the VQ model")
    parser.add_argument("--em-epochs", type=int, default=None)
    parser.add_argument("--smoke", action="store_true", help="a tiny model, a few epochs")
    asked = parser.parse_args()
    small = asked.dataset == "digits"
    if asked.smoke:
        main("digits", None, 4, 4, 1, 1)
    else:
        main(
            asked.dataset,
            asked.data_root,
            asked.patch,
            asked.codes or (16 if small else 64),
            asked.epochs or (30 if small else 2),
            asked.em_epochs or (20 if small else 2),
        )
