"""A hidden Chow-Liu tree over scikit-learn's digits: its structure and its start come from data, EM does the rest.

    python examples/hidden_tree_digits.py            # under a minute on two cores
    python examples/hidden_tree_digits.py --smoke    # some seconds

Prints bits per dimension of the integers 0..16 on the way. It needs the extra `learn`, for scikit-learn and the training
loop.
"""

from __future__ import annotations

import argparse
import math

import networkx as nx
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import pcircuits as pc
from pcircuits import structures
from pcircuits.learning import EMSettings, em

SIDE, LEVELS = 8, 17


def load(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test rows of 64 pixels, integers 0..16."""
    pixels = torch.as_tensor(load_digits().data).float()
    pixels = pixels[torch.randperm(len(pixels), generator=generator)]
    train, validation, test = pixels.split([1200, 237, 360])
    return train, validation, test


def say(what: str, circuit: pc.Circuit | pc.CompiledCircuit, test: Tensor) -> None:
    """Print bits per dimension of the integers: -log2 p(x) / 64."""
    model = circuit.compile() if isinstance(circuit, pc.Circuit) else circuit
    with torch.no_grad():
        print(f"{what}: {-model.log_prob(test).mean().item() / math.log(2) / SIDE**2:.3f}")


def main(smoke: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    train, validation, test = load(generator)
    width = 4 if smoke else 16

    tree = structures.chow_liu_tree(train // 4)  # five levels: fine ones have too few rows for their pairs
    print(f"a tree of radius {nx.radius(tree)}, joined at the edges {list(tree.edges)[:3]}, ...")
    leaves = structures.categorical_leaves(LEVELS)
    say("random start", structures.hidden_tree(tree, leaves, width, generator=generator), test)

    groups = structures.windows(SIDE, SIDE, size=3)
    latents = structures.cluster_states(train, groups, width, generator=generator)
    start = structures.counted_start(train, latents, pseudocount=0.1)
    circuit = structures.hidden_tree(tree, leaves, width, start=start, generator=generator)
    print(circuit.summary())
    say("counted start", circuit, test)

    model = circuit.compile()
    settings = EMSettings(epochs=2 if smoke else 40, batch_size=100, pseudocount=0.1, patience=5)
    history = em(model, train, validation, settings=settings)
    say(f"after epoch {history.best.epoch} of EM", model, test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for the tests")
    main(parser.parse_args().smoke)
