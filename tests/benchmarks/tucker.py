"""A random binary tree of Tucker layers over 64 variables, against cirkit and against bare products.

    sh tests/benchmarks/cirkit_env.sh /tmp/cirkit
    python -m tests.benchmarks.tucker --cirkit /tmp/cirkit --out docs/results/tucker.json

A Tucker layer is a dense sum over all K² products of the units of two parts. Structure and parameters go to cirkit as in
layered.py, and nothing is timed before the log-likelihoods agree to 1e-4. Without `--cirkit` only this package is timed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import pcircuits as pc
from pcircuits import structures
from tests.benchmarks.layered import BARE, Ours, Peer, arrays_of, compare, disagreement, over_bare, peer_in
from tests.benchmarks.measure import Report, Settings, options, settings_of

STATES = 16


def tucker_circuit(variables: int, width: int) -> pc.Circuit:
    """Halves of halves of the variables, drawn at random, down to single ones."""
    generator = torch.Generator().manual_seed(0)
    graph = structures.random_binary_tree(range(variables), (variables - 1).bit_length(), 1, generator)
    leaves = structures.categorical_leaves(STATES)
    return structures.layered(graph, leaves, width, structures.Tucker(), generator=generator)


def rows(variables: int, batch: int) -> tuple[Tensor, Tensor]:
    """Integers (B, D), and a mask of the half of them that is missing, another for each row."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(STATES, (batch, variables), generator=generator)
    return x, torch.rand(x.shape, generator=generator) < 0.5


def agreed(peer: Peer, circuit: pc.Circuit, ours: Ours, x: Tensor, missing: Tensor, settings: Settings) -> str:
    """Hand the circuit and the rows to cirkit; what to say of it, once it agrees."""
    file = peer.send(**arrays_of(circuit))
    built = peer.ask("build", file=file, device=settings.device.type, threads=settings.threads)
    peer.ask("data", file=peer.send(x=x.numpy(), missing=missing.numpy()))
    worst = disagreement(ours, peer)
    return f"; cirkit 0.3.1 ({built['layers']} layers, torch {built['torch']}) agrees to {worst:.1g}"


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--cirkit", type=Path, help="the environment that cirkit_env.sh made")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32], help="units of a region")
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    variables, batch, widths = (8, 8, [3]) if settings.smoke else (64, arguments.batch, arguments.widths)
    report = Report.start("tucker", settings)
    x, missing = rows(variables, batch)
    for width in widths:
        circuit = tucker_circuit(variables, width)
        ours = Ours(circuit, x, missing, settings.device)
        size = f"K = {width}, batch {batch}, {variables} variables"
        title = f"{size}, float32 on {settings.device}"
        with peer_in(arguments.cirkit) as peer:
            if peer is not None:
                title += agreed(peer, circuit, ours, x, missing, settings)
            table = compare(ours, peer, settings)
        columns = ["", "ours, s", "cirkit, s", "cirkit / ours", "optimiser's share, ours", "cirkit"]
        report.add(title, columns, table)
        report.add(f"{size}, over batched products of the shapes of its sums", BARE, over_bare(circuit, ours, settings))
    report.finish(settings)


if __name__ == "__main__":
    main()
