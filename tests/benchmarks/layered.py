"""A quad graph of CP layers with 256-state categorical leaves on 28 × 28 images, against cirkit.

    sh tests/benchmarks/cirkit_env.sh /tmp/cirkit
    python -m tests.benchmarks.layered --cirkit /tmp/cirkit --out docs/results/layered.json

Structure and parameters go to cirkit as arrays, and nothing is timed before the log-likelihoods agree to 1e-4. Without
`--cirkit` only this package is timed. Beside both stand bare batched products of the shapes of the sums: one for each sum
is the least that a forward pass can do, and three the least of a forward and a backward pass.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pcircuits as pc
from pcircuits import structures
from tests.benchmarks.measure import (
    Cell,
    Report,
    Settings,
    bare_products,
    interleaved,
    options,
    peak_mib,
    peak_of,
    settings_of,
    timed,
)

LEAF, DENSE, PRODUCT, MIX, OUTER = range(5)  # as in cirkit_peer.py
ADAM = "one step of Adam"
QUERIES = {"forward": "forward", "marginal": "marginal, a mask for each row", "forward_backward": "forward + backward"}
CIRKIT = Path(__file__).with_name("cirkit_peer.py")


class Ours:
    """This package as a contender: the compiled circuit, the rows, and what is timed of them."""

    def __init__(self, circuit: pc.Circuit, x: Tensor, missing: Tensor, device: torch.device) -> None:
        self.device = device
        self.model = circuit.compile(dtype=torch.float32, device=device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.x = x.to(device, torch.float32)
        self.partly = torch.where(missing.to(device), torch.nan, self.x)

    def forward(self) -> float:
        with torch.no_grad():
            return timed(lambda: self.model.log_prob(self.x), self.device)

    def marginal(self) -> float:
        with torch.no_grad():
            return timed(lambda: self.model.log_prob(self.partly), self.device)

    def forward_backward(self) -> float:
        self.model.zero_grad()
        return timed(self._gradients, self.device)

    def adam(self) -> tuple[float, float]:
        """Seconds of a step, and those of the optimiser alone."""
        self.optimizer.zero_grad()
        gradients, update = timed(self._gradients, self.device), timed(self.optimizer.step, self.device)
        return gradients + update, update

    def _gradients(self) -> None:
        (-self.model.log_prob(self.x).mean()).backward()


class Peer:
    """Another library as a contender, in a process of its own that runs a script such as cirkit_peer.py."""

    def __init__(self, python: Path, folder: Path, script: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )
        self.folder, self._name = folder, script.stem

    def ask(self, do: str, **message: object) -> dict[str, Any]:
        """Say one line and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **message}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._name} ended while it was asked to {do}; its message is above")
        return dict(json.loads(answer))

    def send(self, **arrays: np.ndarray) -> str:
        """Write arrays where the other process reads them."""
        file = str(self.folder / "sent.npz")
        np.savez(file, **arrays)
        return file

    def seconds(self, what: str) -> float:
        return float(self.ask("time", what=what)["seconds"])

    def log_probs(self) -> dict[str, Tensor]:
        file = str(self.folder / "answer.npz")
        self.ask("log_prob", file=file)
        with np.load(file) as arrays:
            return {name: torch.as_tensor(values) for name, values in arrays.items()}

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


@contextmanager
def peer_in(environment: Path | None, script: Path = CIRKIT) -> Iterator[Peer | None]:
    if environment is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(environment.absolute() / "bin" / "python", Path(folder), script)
        try:
            yield peer
        finally:
            peer.close()


def arrays_of(circuit: pc.Circuit) -> dict[str, np.ndarray]:
    """A layered circuit as arrays: a layer for every region, with its kind, inputs, parameters, variable and width."""
    number: dict[tuple[int, int], int] = {}
    layers: list[tuple[int, list[int], np.ndarray, int, int]] = []
    for array in circuit.arrays:
        for region in range(array.regions):
            if isinstance(array, pc.Wiring):
                assert array.column is None, "layers are wired by whole regions"
                source = array.children[array.child[region]]
                number[id(array), region] = number[id(source), int(array.region[region])]
                continue
            number[id(array), region] = len(layers)
            layers.append((*_layer(array, region, number), array.width))
    sizes = [values.size for _, _, values, _, _ in layers]
    return {
        "kind": np.array([kind for kind, *_ in layers]),
        "first_input": np.cumsum([0, *(len(inputs) for _, inputs, *_ in layers)]),
        "inputs": np.array([i for _, inputs, *_ in layers for i in inputs], dtype=np.int64),
        "first_value": np.cumsum([0, *sizes]),
        "values": np.concatenate([values.ravel() for _, _, values, _, _ in layers]),
        "shape": np.array([values.shape for _, _, values, _, _ in layers]),
        "variable": np.array([variable for *_, variable, _ in layers]),
        "width": np.array([width for *_, width in layers]),
    }


def _layer(array: pc.Units, region: int, number: dict[tuple[int, int], int]) -> tuple[int, list[int], np.ndarray, int]:
    """The kind, the inputs, the parameters and the variable of one region of an array."""
    inputs = [number[id(child), region] for child in array.children]
    nothing = np.zeros((0, 0))
    if isinstance(array, pc.Input):
        (label,) = array.variables[region]
        assert isinstance(array.parameters, dict)
        return LEAF, [], array.parameters["probs"].value[region].numpy(), int(label)
    if isinstance(array, pc.Sum):
        return DENSE, inputs, array.weights.value[region].numpy(), -1
    if isinstance(array, pc.Mix):
        return MIX, inputs, array.weights.value[region].numpy(), -1
    if isinstance(array, pc.Outer):
        return OUTER, inputs, nothing, -1
    assert isinstance(array, pc.Product)
    assert array.groups is None
    return PRODUCT, inputs, nothing, -1


def over_bare(circuit: pc.Circuit, ours: Ours, settings: Settings) -> list[list[Cell]]:
    """Seconds of passes over those of bare products: one for each array of dense sums, or three."""
    shapes = [(a.regions, a.children[0].width, a.width) for a in circuit.sums if isinstance(a, pc.Sum)]
    one, three = bare_products(shapes, len(ours.x), settings.device)
    runs = {
        "forward": ours.forward,
        "one": lambda: timed(one, settings.device),
        "both": ours.forward_backward,
        "three": lambda: timed(three, settings.device),
    }
    taken = {name: statistics.median(seconds) for name, seconds in interleaved(runs, settings.repeats).items()}
    return [
        ["forward, over one product of each", taken["forward"], taken["one"], taken["forward"] / taken["one"]],
        ["forward + backward, over three", taken["both"], taken["three"], taken["both"] / taken["three"]],
    ]


BARE = ["", "ours, s", "bare products, s", "ours / bare"]


def quad_circuit(side: int, width: int, states: int) -> pc.Circuit:
    """The circuit that is timed."""
    generator = torch.Generator().manual_seed(0)
    graph = structures.quad_graph(side, side)
    return structures.layered(graph, structures.categorical_leaves(states), width, generator=generator)


def rows(side: int, batch: int, states: int) -> tuple[Tensor, Tensor]:
    """Integers (B, D), and a mask of the half of them that is missing, another for each row."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(states, (batch, side * side), generator=generator)
    return x, torch.rand(x.shape, generator=generator) < 0.5


def disagreement(ours: Ours, peer: Peer) -> float:
    """The largest relative difference of log-likelihoods and marginals; raises where it is above 1e-4."""
    theirs = peer.log_probs()
    with torch.no_grad():
        mine = {"log_prob": ours.model.log_prob(ours.x), "marginal": ours.model.log_prob(ours.partly)}
    worst = max(
        float(((mine[name].double().cpu() - theirs[name]) / theirs[name]).abs().max())
        for name in ("log_prob", "marginal")
    )
    if not worst <= 1e-4:
        raise RuntimeError(f"the log-likelihoods differ by {worst:.2g}: nothing is timed")
    return worst


def against_cpu(circuit: pc.Circuit, ours: Ours) -> float:
    """The largest relative difference of log-likelihoods and marginals to those of the CPU; raises above 1e-4."""
    model = circuit.compile(dtype=torch.float32)
    worst = 0.0
    with torch.no_grad():
        for x in (ours.x, ours.partly):
            here = model.log_prob(x.cpu())
            worst = max(worst, float(((ours.model.log_prob(x).cpu() - here) / here).abs().max()))
    if not worst <= 1e-4:
        raise RuntimeError(f"{ours.device} and the CPU differ by {worst:.2g}: nothing is timed")
    return worst


def compare(ours: Ours, peer: Peer | None, settings: Settings) -> list[list[Cell]]:
    """Seconds of each query, and how many times longer cirkit takes."""
    table: list[list[Cell]] = []
    for what, title in QUERIES.items():
        runs = {"ours": getattr(ours, what)}
        if peer is not None:
            runs["cirkit"] = lambda what=what: peer.seconds(what)
        seconds = {name: statistics.median(s) for name, s in interleaved(runs, settings.repeats).items()}
        theirs = seconds.get("cirkit")
        table.append([title, seconds["ours"], theirs, None if theirs is None else theirs / seconds["ours"], None, None])
    table.append(_adam_row(ours, peer, settings.repeats))
    return table


def _adam_row(ours: Ours, peer: Peer | None, repeats: int) -> list[Cell]:
    steps: dict[str, list[tuple[float, float]]] = {"ours": [], "cirkit": []}
    for turn in range(repeats + 1):
        mine = ours.adam()
        theirs = peer.ask("time", what="adam") if peer is not None else None
        if turn:
            steps["ours"].append(mine)
            if theirs is not None:
                steps["cirkit"].append((theirs["seconds"], theirs["optimiser"]))
    seconds = {name: statistics.median(s for s, _ in taken) for name, taken in steps.items() if taken}
    share = {name: statistics.median(o / s for s, o in taken) for name, taken in steps.items() if taken}
    other = seconds.get("cirkit")
    ratio = None if other is None else other / seconds["ours"]
    return [ADAM, seconds["ours"], other, ratio, share["ours"], share.get("cirkit")]


def sampling(model: pc.CompiledCircuit, given: Tensor, settings: Settings) -> dict[str, list[float]]:
    """Seconds of as many samples as there are rows: of nothing known, and one for each row of evidence."""
    generator = torch.Generator(device="cpu").manual_seed(2)
    runs = {
        "unconditional": lambda: timed(lambda: model.sample(len(given), generator=generator), settings.device),
        "conditional": lambda: timed(lambda: model.given(given).sample(1, generator=generator), settings.device),
    }
    return interleaved(runs, settings.repeats)


def ask_once(what: str, width: int, side: int, batch: int, states: int, device: torch.device) -> None:
    """Build the circuit, sample once, and print the peak memory of it all."""
    x, missing = rows(side, batch, states)
    ours = Ours(quad_circuit(side, width, states), x, missing, device)
    generator = torch.Generator().manual_seed(2)
    if what == "unconditional":
        ours.model.sample(batch, generator=generator)
    elif what == "conditional":
        ours.model.given(ours.partly).sample(1, generator=generator)
    print(peak_mib(device))


def own_builder(peer: Peer, side: int, width: int, repeats: int) -> list[Cell]:
    """cirkit's circuit of our arrays against cirkit's own quad graph: what is handed over must be no handicap."""
    handed = {what: statistics.median(peer.seconds(what) for _ in range(repeats)) for what in QUERIES}
    built = peer.ask("own", height=side, width=side, units=width, states=256)
    own: dict[str, float] = {}
    for what in QUERIES:
        peer.seconds(what)
        own[what] = statistics.median(peer.seconds(what) for _ in range(repeats))
    return [width, built["layers"], *(handed[what] / own[what] for what in QUERIES)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--cirkit", type=Path, help="the environment that cirkit_env.sh made")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64], help="units of a region")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--peak", choices=["nothing", "unconditional", "conditional"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    side, batch, widths = (8, 8, [4]) if settings.smoke else (28, arguments.batch, arguments.widths)
    states = 256
    if arguments.peak is not None:
        ask_once(arguments.peak, widths[0], side, batch, states, settings.device)
        return
    report = Report.start("layered", settings)
    x, missing = rows(side, batch, states)
    samples: list[list[Cell]] = []
    owns: list[list[Cell]] = []
    with ExitStack() as stack:
        for width in widths:
            circuit = quad_circuit(side, width, states)
            ours = Ours(circuit, x, missing, settings.device)
            peer = stack.enter_context(peer_in(arguments.cirkit))
            title = f"K = {width}, batch {batch}, {side} × {side}, float32 on {settings.device}"
            if peer is not None:
                file = peer.send(**arrays_of(circuit))
                built = peer.ask("build", file=file, device=settings.device.type, threads=settings.threads)
                peer.ask("data", file=peer.send(x=x.numpy(), missing=missing.numpy()))
                worst = disagreement(ours, peer)
                title += f"; cirkit 0.3.1 ({built['layers']} layers, torch {built['torch']}) agrees to {worst:.1g}"
            if settings.device.type != "cpu":
                title += f"; the CPU agrees to {against_cpu(circuit, ours):.1g}"
            taken = sampling(ours.model, ours.partly, settings)
            table = compare(ours, peer, settings)
            columns = ["", "ours, s", "cirkit, s", "cirkit / ours", "optimiser's share, ours", "cirkit"]
            report.add(title, columns, table)
            title = f"K = {width}, batch {batch}, {side} × {side}, over batched products of the shapes of its sums"
            report.add(title, BARE, over_bare(circuit, ours, settings))
            small = ["--smoke"] if settings.smoke else ["--widths", str(width), "--batch", str(batch)]
            child = [*small, "--threads", str(settings.threads), "--device", settings.device.type, "--peak"]
            before = peak_of("layered", [*child, "nothing"])
            for what in ("unconditional", "conditional"):
                peak = peak_of("layered", [*child, what])
                samples.append([width, what, statistics.median(taken[what]), peak, before])
            if peer is not None:
                owns.append(own_builder(peer, side, width, settings.repeats))
            stack.pop_all().close()
    title = f"Sampling {batch} images, float32 on {settings.device}"
    report.add(title, ["K", "", "seconds", "peak memory, MiB", "of that, before the query"], samples)
    if owns:
        title = "cirkit on the circuit it was handed / on its own quad graph of the same size (seconds)"
        report.add(title, ["K", "layers of its own", *QUERIES.values()], owns)
    report.finish(settings)


if __name__ == "__main__":
    main()
