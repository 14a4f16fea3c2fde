"""`vq-circuit info`: what a folder, a circuit file or a model file holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from safetensors import SafetensorError, safe_open
from torch import Tensor

import pcircuits as pc
from pcircuits.queries.compiled import Queries
from pcircuits.scope import REAL
from vq_sources.cli.circuit_files import CircuitFile, chosen_root, open_circuit
from vq_sources.cli.failures import reporting
from vq_sources.cli.judging import DTYPE
from vq_sources.cli.options import Device, Out, Root, Seed, check_device
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import SETTINGS_NAME, Workspace, settings_of
from vq_sources.errors import ConfigError, DataError
from vq_sources.report import method_name, read_json, write_json

__all__ = ["info"]

OWN_SAMPLES = 64
NOT_READ = "it cannot be told how the folder was made"
_BY = ("grid", "data_shape")
"""What is so many by so many."""


def info(
    path: Annotated[
        Path, typer.Argument(help="A folder of results, a circuit file, or a model file.", show_default=False)
    ],
    root: Root = None,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Say what a folder, a circuit file (.pc) or a model file (.safetensors) holds.

    Of a circuit: its size, its properties (each a verdict, with a witness where it does not hold), where it came from,
    and its entropy, estimated from 64 samples of its own: that of its integers, and the differential entropy of its real
    numbers given these, which are never mixed. A circuit of several roots has one for each: choose with --root.

    Writes nothing, unless --out names a folder for info.json.
    """
    with reporting():
        check_device(device)
        voice = Voice()
        found = _look(path, root, seed, device, voice)
        if out is not None:
            with Workspace.open(
                out, settings_of("info", {"path": str(path), "root": root, "seed": seed, "device": device})
            ) as workspace:
                write_json(workspace.path("info.json"), found)
        table = Table(
            show_header=False, box=None, pad_edge=False, title=str(path), title_justify="left", title_style="bold"
        )
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in found.items():
            table.add_row(name, _text(value, name))
        voice.out.print(table, highlight=False)


def _look(path: Path, root: int | None, seed: int, device: str, voice: Voice) -> dict[str, Any]:
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    if path.suffix == ".safetensors":
        return _model(path)
    return _circuit(open_circuit(path), root, seed, device, voice)


def _folder(folder: Path) -> dict[str, Any]:
    if not (folder / SETTINGS_NAME).is_file():
        raise ConfigError(f"{folder} has no {SETTINGS_NAME}: it was not made by vq-circuit")
    settings = read_json(folder / SETTINGS_NAME, NOT_READ)
    command = settings.get("command")
    found: dict[str, Any] = {"made by": f"vq-circuit {command}"}
    last = ("report.json", f"{command}.json", f"stages/{command}.json")
    finished = any((folder / name).is_file() for name in last)
    found["finished"] = "yes" if finished else "no: run the same command again to go on"
    found |= {name: settings[name] for name in ("dataset", "seed", "device", "sizes", "versions") if name in settings}
    for name in ("vqvae.safetensors", "prior.safetensors"):
        if (folder / name).is_file():
            found[name] = _text(_model(folder / name))
    for name in ("training/vqvae", "training/prior"):
        log = folder / name / "training.csv"
        if log.is_file():
            found[name] = f"{len(log.read_text(encoding='utf-8').splitlines()) - 1} epochs, in {log.name}"
    found["circuits"] = _named([p.relative_to(folder) for p in folder.rglob("*.pc")])
    found["pictures"] = ", ".join(sorted(p.name for p in folder.glob("*.png"))) or "none"
    return found


def _named(circuits: Sequence[Path]) -> str:
    """The names of circuit files, those that differ in their size alone together."""
    sizes: dict[str, list[int]] = {}
    others = []
    for path in circuits:
        name, _, size = path.stem.rpartition("-")
        if name and size.isdecimal():
            sizes.setdefault(str(path.with_name(name)), []).append(int(size))
        else:
            others.append(str(path))
    families = [f"{name}-({', '.join(map(str, sorted(of)))}).pc" for name, of in sorted(sizes.items())]
    return "\n".join([*families, *sorted(others)]) or "none"


def _model(path: Path) -> dict[str, Any]:
    """What the header of a model file, or a file of codes, says."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a safetensors file ({error}): it is truncated, altered or none"
        ) from error
    if "architecture" in header:
        numbers = sum(math.prod(shape) for shape in shapes.values())
        config = json.loads(header["config"])
        return {"architecture": header["architecture"], "numbers": f"{numbers:,} (weights and buffers)", **config}
    if "code_set" in header:
        about = json.loads(header["code_set"])
        return {"codes": shapes["codes"], "grid": about["grid"], **about["provenance"]}
    return {name: f"tensor {shape}" for name, shape in shapes.items()}


@torch.no_grad()
def _circuit(file: CircuitFile, root: int | None, seed: int, device: str, voice: Voice) -> dict[str, Any]:
    circuit, origin = file.circuit, file.origin
    found: dict[str, Any] = {"summary": str(circuit.summary()), "roots": circuit.num_roots}
    properties = circuit.check()
    for name in ("smooth", "decomposable", "homogeneous", "normalised", "deterministic"):
        verdict = getattr(properties, name)
        said = {True: "yes", False: "no"}.get(verdict.holds, "not known")
        found[name] = said if verdict.witness is None or verdict.holds else f"{said}: {verdict.witness}"
    found["families"] = ", ".join(sorted({array.family.name for array in circuit.inputs}))
    if origin:
        count = f"{origin['reached']:,} codes" + (
            f" of {origin['asked']:,}" if origin["asked"] > origin["reached"] else ""
        )
        found["distilled"] = (
            f"from {origin['dataset']}, {count} by {method_name(origin['method'])}, seed {origin['seed']}"
        )
        found["weights"] = origin["weights"]
        found["covered mass"] = f"{origin['covered_mass']:.4f} of prior {origin['prior']}"
        found["parameters"] = origin["sizes"]
    if root is None and circuit.num_roots > 1:
        found["entropy"] = f"of each root another: say which of 0 to {circuit.num_roots - 1} with --root"
        return found
    chosen = chosen_root(file, root)
    of = "" if root is None else f", root {chosen}"
    with voice.step(f"entropy, from {OWN_SAMPLES} of its own samples"):
        model = circuit.compile(dtype=DTYPE, device=device).root(chosen)
        own = model.sample(OWN_SAMPLES, generator=torch.Generator().manual_seed(seed))
        for name, bits in _entropies(circuit, model, own):
            found[name + of] = (
                f"about {float(bits.mean()):.3f} ± {float(bits.std() / OWN_SAMPLES**0.5):.3f} bits per variable"
            )
    return found


def _entropies(circuit: pc.Circuit, model: Queries, own: Tensor) -> Iterator[tuple[str, Tensor]]:
    """−log2 p of its own samples for each variable, of integers and of real numbers apart, by what it is called.

    H(d, c) = H(d) + h(c | d): the first is of probabilities, the second of densities, whose unit it depends on.
    """
    integers = torch.tensor([states != REAL for states in circuit.states], device=own.device)
    count, density = int(integers.sum()), int((~integers).sum())
    nothing = torch.full_like(own[:1], torch.nan)
    mass, whole = model.log_prob(nothing), model.log_prob(own)
    part = model.log_prob(torch.where(integers, own, torch.nan)) if count and density else whole if count else mass
    if count:
        name = f"entropy of {count:,} integer variables" if density else "entropy"
        yield name, (mass - part) / math.log(2) / count
    if density:
        name = f"differential entropy of {density:,} real ones given these" if count else "differential entropy"
        yield name, (part - whole) / math.log(2) / density


def _text(value: Any, name: str = "") -> str:
    if isinstance(value, Mapping) and "family" in value:
        return str(value["family"])
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item, name)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return (" × " if name in _BY else ", ").join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
