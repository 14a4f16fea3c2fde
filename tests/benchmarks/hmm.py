"""A homogeneous hidden Markov model of 1,000 steps and 20 states, against hmmlearn, in float64.

    sh tests/benchmarks/peers/hmmlearn_env.sh /tmp/hmmlearn
    python -m tests.benchmarks.hmm --peer /tmp/hmmlearn --threads 1 --out docs/results/hmm.json

Both have the same parameters and sequences, and nothing is timed before they agree to 1e-8 on log-likelihoods, state
probabilities and the log-probabilities of best paths. hmmlearn keeps its numbers in range in two ways, both of which
are timed; "log" is its default. Without `--peer` only this package is timed. Another query is an entry of `QUERIES` and a
method of that name here and in hmmlearn_peer.py.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pcircuits as pc
from pcircuits import structures
from tests.benchmarks.layered import Peer, peer_in
from tests.benchmarks.measure import Cell, Report, Settings, interleaved, options, settings_of, timed

QUERIES = {"forward": "log-likelihood", "states": "state probabilities", "path": "best path"}
WAYS = ("log", "scaling")
LETTERS = 30
SCRIPT = Path(__file__).parent / "peers" / "hmmlearn_peer.py"


def hidden_markov(length: int, states: int) -> pc.Circuit:
    """The circuit that is timed."""
    leaves, generator = structures.categorical_leaves(LETTERS), torch.Generator().manual_seed(0)
    return structures.hidden_markov(length, states, leaves, generator=generator)


def rows(batch: int, length: int, device: torch.device) -> Tensor:
    """Letters (B, T), as float64."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(LETTERS, (batch, length), generator=generator).to(device, torch.float64)


def numbers(circuit: pc.Circuit) -> dict[str, np.ndarray]:
    """The parameters by the names of hmmlearn_peer.py."""
    emissions, transitions, initial = (p.value.double().numpy() for p in circuit.parameters())
    return {"emissions": emissions[0], "transitions": transitions, "initial": initial[0]}


class Ours:
    """The model, and the model with its latents as variables."""

    def __init__(self, circuit: pc.Circuit, x: Tensor) -> None:
        self.model = circuit.compile(torch.float64, x.device)
        both = pc.with_latents(circuit)
        self.latents = both.variables[x.shape[1] :]
        self.decoder = both.compile(torch.float64, x.device)
        self.x, self.known = x, torch.nn.functional.pad(x, (0, len(self.latents)), value=math.nan)

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.model.log_prob(self.x)

    def states(self) -> Tensor:
        return self.decoder.given(self.known).probabilities(self.latents)

    def path(self) -> pc.Completion:
        return self.decoder.given(self.known).marginal_map(self.latents)

    def gradients(self) -> None:
        self.model.zero_grad()
        (-self.model.log_prob(self.x).mean()).backward()


def disagreement(ours: Ours, peer: Peer, folder: Path) -> float:
    """The largest difference, relative where values are above 1; raises where it is above 1e-8."""
    file = folder / "answers.npz"
    peer.ask("answers", file=str(file))
    with np.load(file) as arrays:
        theirs = {name: torch.as_tensor(values) for name, values in arrays.items()}
    known, found = ours.forward().cpu(), ours.path()
    values = found.log_prob.cpu() + known
    pairs = [(known, theirs["forward"]), (ours.states().cpu(), theirs["states"]), (values, theirs["values"])]
    worst = max(float(((a - b) / b.abs().clamp(min=1.0)).abs().max()) for a, b in pairs)
    if not worst <= 1e-8:
        raise RuntimeError(f"the answers differ by {worst:.2g}: nothing is timed")
    return worst


def compare(ours: Ours, peers: dict[str, Peer], settings: Settings) -> list[list[Cell]]:
    """Seconds of each query, and how many times longer hmmlearn takes in each of its ways."""
    table: list[list[Cell]] = []
    for what, title in QUERIES.items():
        runs = {"ours": lambda what=what: timed(getattr(ours, what), settings.device)}
        runs |= {way: lambda what=what, peer=peer: peer.seconds(what) for way, peer in peers.items()}
        seconds = {name: statistics.median(taken) for name, taken in interleaved(runs, settings.repeats).items()}
        theirs = [seconds.get(way) for way in WAYS]
        ratios = [None if taken is None else taken / seconds["ours"] for taken in theirs]
        table.append([len(ours.x), title, seconds["ours"], *theirs, *ratios])
    return table


def growth(lengths: Sequence[int], states: int, batch: int, settings: Settings) -> list[list[Cell]]:
    """Seconds of passes over sequences of some lengths: they should grow as the length does."""
    table: list[list[Cell]] = []
    for length in lengths:
        ours = Ours(hidden_markov(length, states), rows(batch, length, settings.device))
        runs = {
            "forward": lambda ours=ours: timed(ours.forward, settings.device),
            "both": lambda ours=ours: timed(ours.gradients, settings.device),
        }
        seconds = {name: statistics.median(taken) for name, taken in interleaved(runs, settings.repeats).items()}
        layers = len(ours.model.program.layers)
        table.append([length, layers, seconds["forward"], seconds["both"], 1e6 * seconds["both"] / length])
    return table


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--peer", type=Path, help="the environment that peers/hmmlearn_env.sh made")
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--states", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 256])
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    length, states, batches = (
        (12, 3, [1, 4]) if settings.smoke else (arguments.length, arguments.states, arguments.batches)
    )
    report = Report.start("hmm", settings)
    circuit, table, agreed = hidden_markov(length, states), [], ""
    for batch in batches:
        ours = Ours(circuit, rows(batch, length, settings.device))
        with ExitStack() as stack:
            found = {way: stack.enter_context(peer_in(arguments.peer, SCRIPT)) for way in WAYS}
            peers = {way: peer for way, peer in found.items() if peer is not None}
            worst = 0.0
            for way, peer in peers.items():
                built = peer.ask("build", file=peer.send(**numbers(circuit)), way=way)
                peer.ask("data", file=peer.send(x=ours.x.cpu().long().numpy()))
                worst = max(worst, disagreement(ours, peer, peer.folder))
                agreed = f"; hmmlearn {built['hmmlearn']} agrees to {worst:.1g}"
            table += compare(ours, peers, settings)
    title = f"A hidden Markov model of {length} steps and {states} states, float64 on {settings.device}{agreed}"
    ways = [f"hmmlearn, {way}, s" for way in WAYS], [f"hmmlearn, {way} / ours" for way in WAYS]
    report.add(title, ["rows", "", "ours, s", *ways[0], *ways[1]], table)
    lengths = [8, 16] if settings.smoke else [length // 4, length // 2, length, 2 * length, 4 * length]
    rows_ = 2 if settings.smoke else 16
    title = f"Passes over {rows_} sequences by their length"
    columns = ["steps", "layers", "forward, s", "forward + backward, s", "the same in µs a step"]
    report.add(title, columns, growth(lengths, states, rows_, settings))
    report.finish(settings)


if __name__ == "__main__":
    main()
