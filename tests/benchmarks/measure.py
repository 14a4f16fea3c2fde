"""What every benchmark shares: options, interleaved medians, peak memory, and results as a table and as a small file."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

__all__ = [
    "Report",
    "Settings",
    "Table",
    "bare_products",
    "forget_peak",
    "hardware",
    "interleaved",
    "medians",
    "options",
    "peak_mib",
    "peak_of",
    "settings_of",
    "shown",
    "timed",
]

ROOT = Path(__file__).parents[2]

Cell = str | int | float | None


@dataclass(frozen=True)
class Settings:
    """What all benchmarks are told."""

    threads: int
    repeats: int
    device: torch.device
    smoke: bool
    out: Path | None


@dataclass(frozen=True)
class Table:
    """A title, the names of columns, and rows; cells are words, numbers, or None where nothing was measured."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Report:
    """What a benchmark found: tables, beside the command and the hardware that made them."""

    name: str
    command: str
    hardware: Mapping[str, Cell]
    tables: list[Table] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, settings: Settings) -> Report:
        """A report without tables, of the command that runs."""
        kept = [a for i, a in enumerate(sys.argv[1:], 1) if not _is_out(a) and not _is_out(sys.argv[i - 1])]
        arguments = [
            Path(a).name if Path(a).is_absolute() else a for a in kept
        ]  # whose folders these were says nothing
        command = shlex.join(["python", "-m", f"tests.benchmarks.{name}", *arguments])
        return cls(name, command, hardware(settings))

    def add(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table, and print it."""
        self.tables.append(Table(title, columns, rows))
        print(f"\n{title}")
        cells = [list(columns), *([shown(cell) for cell in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        for row in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)

    def finish(self, settings: Settings) -> None:
        """Print the command and the hardware; write the file, whole or not at all, where one was asked for."""
        print(f"\n{self.command}")
        print(", ".join(f"{name} {value}" for name, value in self.hardware.items() if value is not None))
        if settings.out is None:
            return
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = settings.out.with_name(settings.out.name + ".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        temporary.replace(settings.out)


def _is_out(argument: str) -> bool:
    return argument == "--out"


def options(description: str, repeats: int = 5) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=repeats, help="runs of each contender, taken in turns")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    return parser


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that were asked for, made true of torch: threads, and float32 products without TF32."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("--device cuda: torch sees no GPU here")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    repeats = min(arguments.repeats, 2) if arguments.smoke else arguments.repeats
    return Settings(arguments.threads, repeats, device, arguments.smoke, arguments.out)


def hardware(settings: Settings) -> dict[str, Cell]:
    """The machine, and the versions that matter."""
    gpu = torch.cuda.get_device_name(settings.device) if settings.device.type == "cuda" else None
    return {
        "CPU": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "memory in GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "GPU": gpu,
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    features = {word for line in lines if line.startswith("flags") for word in line.split()}
    extra = next((name for name in ("amx_tile", "avx512f", "avx2") if name in features), "")
    return f"{names[0] if names else platform.machine()} {f'({extra})' if extra else ''}".strip()


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, with what it started on the device."""
    _wait(device)
    begin = time.perf_counter()
    result = call()
    _wait(device)
    seconds = time.perf_counter() - begin
    del result
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bare_products(
    shapes: Sequence[tuple[int, int, int]], batch: int, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """What sums (R, K, O) cannot do without, in float32: calls of one batched product for each, and of three.

    A forward pass multiplies values by weights. A backward pass multiplies what comes back by weights, and by values.
    """
    generator = torch.Generator().manual_seed(3)
    pairs = [
        (
            torch.rand((regions, batch, inputs), generator=generator).to(device),
            torch.rand((regions, inputs, outputs), generator=generator).to(device),
        )
        for regions, inputs, outputs in shapes
    ]

    def one() -> None:
        for values, weights in pairs:
            torch.matmul(values, weights)

    def three() -> None:
        for values, weights in pairs:
            made = torch.matmul(values, weights)
            torch.matmul(made, weights.transpose(1, 2))
            torch.matmul(values.transpose(1, 2), made)

    return one, three


def interleaved(contenders: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """The seconds of contenders that take turns, so that a busy moment of the machine falls on all of them.

    Each contender answers with its own seconds. A first round, which warms up, is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            gc.collect()
            took = run()
            if turn:
                seconds[name].append(took)
    return seconds


def medians(contenders: Mapping[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of contenders in turns."""
    runs = {name: (lambda call=call: timed(call, device)) for name, call in contenders.items()}
    return {name: statistics.median(taken) for name, taken in interleaved(runs, repeats).items()}


def peak_mib(device: torch.device) -> float:
    """The most memory that this process, or it on the GPU, has held so far, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:  # the kernel's mark of this program alone: ru_maxrss also counts the parent's, from before exec
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def forget_peak(device: torch.device) -> None:
    """Count the peak from here on: what making the data took is not the circuit's."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_of(name: str, arguments: Sequence[str]) -> float:
    """The peak memory, in MiB, of a benchmark run by itself with these arguments; it prints the number last."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} {shlex.join(arguments)} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def shown(cell: Cell) -> str:
    """A cell as it is printed: numbers with three digits."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
