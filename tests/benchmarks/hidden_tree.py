"""A hidden tree over the pixels of 28 × 28 images: 784 latents of K states, one under each pixel, with 256-state leaves.

    python -m tests.benchmarks.hidden_tree --out docs/results/hidden_tree.json

The tree is a minimum spanning tree of the grid with random weights, rooted in its centre. Its edges are 783 dense sums of
K by K, and beside it stand bare batched products of that shape: one is the least that a forward pass can do, and three the
least of a forward and a backward pass.
"""

from __future__ import annotations

import argparse
import time

import networkx as nx
import torch
from torch import Tensor

import pcircuits as pc
from pcircuits import structures
from tests.benchmarks.measure import (
    Cell,
    Report,
    Settings,
    bare_products,
    forget_peak,
    medians,
    options,
    peak_mib,
    peak_of,
    settings_of,
)

PEAK_WIDTH, PEAK_MEMORY = 128, 256 * 2**20
"""K and the bound on memory of the training step whose peak is measured."""


def grid_tree(side: int, generator: torch.Generator) -> nx.Graph:
    """A random spanning tree of a grid."""
    grid = nx.convert_node_labels_to_integers(nx.grid_2d_graph(side, side), ordering="sorted")
    for edge in sorted(grid.edges):
        grid.edges[edge]["weight"] = float(torch.rand((), generator=generator))
    return nx.minimum_spanning_tree(grid)


def hidden_tree(side: int, width: int, states: int) -> pc.Circuit:
    """p(x) = Σ_z Π_v p(x_v | z_v) p(z_v | z_parent(v)), with random parameters."""
    generator = torch.Generator().manual_seed(0)
    leaves = structures.categorical_leaves(states)
    return structures.hidden_tree(grid_tree(side, generator), leaves, width, generator=generator)


def rows(side: int, batch: int, states: int, device: torch.device) -> Tensor:
    """Integers (B, D), as floats."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(states, (batch, side * side), generator=generator).to(device, torch.float32)


def gradients(model: pc.CompiledCircuit, x: Tensor) -> None:
    """Forward and backward of the mean negative log-likelihood."""
    model.zero_grad()
    (-model.log_prob(x).mean()).backward()


def compare(width: int, side: int, batch: int, states: int, settings: Settings) -> tuple[list[list[Cell]], list[Cell]]:
    """Passes over bare products of their shapes; and seconds before the first answer."""
    begin = time.perf_counter()
    circuit = hidden_tree(side, width, states)
    built = time.perf_counter()
    assert circuit.check().decomposable
    checked = time.perf_counter()
    model = circuit.compile(torch.float32, settings.device)
    compiled = time.perf_counter()
    x = rows(side, batch, states, settings.device)
    one, three = bare_products([(side * side - 1, width, width)], batch, settings.device)

    def forward() -> None:
        with torch.no_grad():
            model.log_prob(x)

    runs = {"forward": forward, "one": one, "both": lambda: gradients(model, x), "three": three}
    taken = medians(runs, settings.repeats, settings.device)
    table: list[list[Cell]] = [
        [width, "forward, over one product", taken["forward"], taken["one"], taken["forward"] / taken["one"]],
        [width, "forward + backward, over three", taken["both"], taken["three"], taken["both"] / taken["three"]],
    ]
    return table, [width, built - begin, checked - built, compiled - checked, len(model.program.layers)]


def ask_once(what: str, side: int, batch: int, states: int, width: int, device: torch.device) -> None:
    """Build and compile the circuit, take one training step, and print the peak memory from compiling on."""
    model = hidden_tree(side, width, states).compile(torch.float32, device, memory=PEAK_MEMORY)
    x = rows(side, batch, states, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)  # what torch imports for it is not the circuit's
    forget_peak(device)
    if what == "step":
        gradients(model, x)
        optimizer.step()
    print(peak_mib(device))


def peaks(settings: Settings, batch: int, width: int) -> list[list[Cell]]:
    """The peak memory of processes of their own."""
    child = ["--smoke"] if settings.smoke else ["--batch", str(batch), "--widths", str(width)]
    child += ["--threads", str(settings.threads), "--device", settings.device.type, "--peak"]
    return [
        ["a compiled circuit, and nothing asked of it", peak_of("hidden_tree", [*child, "nothing"])],
        ["forward, backward and a step of SGD", peak_of("hidden_tree", [*child, "step"])],
    ]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256], help="K, the states of a latent")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--peak", choices=["nothing", "step"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    side, batch, states, widths = (6, 8, 16, [4]) if settings.smoke else (28, arguments.batch, 256, arguments.widths)
    if arguments.peak is not None:
        ask_once(arguments.peak, side, batch, states, widths[0], settings.device)
        return
    report = Report.start("hidden_tree", settings)
    passes: list[list[Cell]] = []
    before: list[list[Cell]] = []
    for width in widths:
        table, first = compare(width, side, batch, states, settings)
        passes += table
        before.append(first)
    shape = f"{side} × {side}, {states} states, batch {batch}, float32 on {settings.device}"
    report.add(f"A hidden tree over {shape}", ["K", "", "ours, s", "bare products, s", "ours / bare"], passes)
    report.add("Before the first answer", ["K", "build, s", "check, s", "compile, s", "layers"], before)
    width = widths[0] if settings.smoke else PEAK_WIDTH
    title = f"Peak memory of a process, K = {width}, compiled with memory = {PEAK_MEMORY // 2**20} MiB"
    report.add(title, ["", "MiB"], peaks(settings, batch, width))
    report.finish(settings)


if __name__ == "__main__":
    main()
