"""`vq-circuit evaluate`: bits per dimension of a circuit file on images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import vq_sources as vq
from vq_sources.cli.circuit_files import CircuitFile, open_circuit
from vq_sources.cli.failures import reporting
from vq_sources.cli.judging import evaluated
from vq_sources.cli.options import DataRoot, DatasetName, Device, Download, Out, Seed, Split, check_device
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import Workspace, settings_of
from vq_sources.data import Dataset
from vq_sources.errors import DataError
from vq_sources.report import Row, results_table, write_json

__all__ = ["evaluate", "images_for"]


def evaluate(
    circuit: Annotated[Path, typer.Argument(help="A circuit file.", show_default=False)],
    dataset: Annotated[
        DatasetName | None, typer.Option(help="The images; by default those it was made from.", show_default=False)
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of them.")] = Split.test,
    images: Annotated[int | None, typer.Option(help="Only the first so many.", min=1, show_default=False)] = None,
    data_root: DataRoot = None,
    download: Download = False,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Evaluate a circuit on images: both bits per dimension, covered mass, sizes.

    [bold]Continuous[/] bits are −log2 of the density of dequantised pixels, over D, plus log2 L; [bold]discrete[/] ones
    are −log2 of the probability of the integers, over D. They are never mixed.

    Default folder: runs/evaluate-CIRCUIT, with report.json.
    """
    with reporting():
        check_device(device)
        file = open_circuit(circuit)
        name = dataset.value if dataset is not None else dataset_of(file)
        asked = {"circuit": file.digest, "dataset": name, "split": split.value, "images": images}
        data = images_for(file, name, data_root, download)
        voice = Voice()
        folder = out or Path("runs", f"evaluate-{circuit.stem}")
        with Workspace.open(folder, settings_of("evaluate", {**asked, "seed": seed, "device": device})) as workspace:

            def compute() -> dict[str, Any]:
                chosen = getattr(data, split.value).images[:images]
                with voice.step(f"evaluating {len(chosen):,} images"):
                    judged = evaluated(file.circuit, chosen, data.levels, device, seed)
                return {**judged, "images": len(chosen)}

            result, seconds = workspace.stage("evaluate", compute)
            write_json(
                workspace.path("report.json"),
                {"command": "evaluate", **asked, **result, "origin": dict(file.origin), "seconds": seconds},
            )
        _show(voice, file, result, f"{name}, {result['images']:,} {split.value} images", seconds)


def dataset_of(file: CircuitFile) -> str:
    """The data set that a circuit was made from.

    **Raises** `DataError` where that is not known.
    """
    if "dataset" not in file.origin:
        raise DataError(f"what data set {file.path} was made from is not known: say so with --dataset")
    return str(file.origin["dataset"])


def images_for(file: CircuitFile, name: str, data_root: Path | None, download: bool) -> Dataset:
    """A data set for a circuit.

    **Raises** `DataError` where its images do not have a pixel for each variable.
    """
    data = vq.load(name, root=data_root, download=download)
    pixels = data.shape[0] * data.shape[1]
    if pixels != len(file.circuit.variables):
        raise DataError(
            f"{file.path} is over {len(file.circuit.variables)} variables, and images of {name!r} have {pixels} pixels: "
            "take the data set that it was made from"
        )
    if file.circuit.num_roots > 1:
        raise DataError(f"{file.path} has {file.circuit.num_roots} roots, and images are judged by one")
    return data


def _show(voice: Voice, file: CircuitFile, result: dict[str, Any], title: str, seconds: float) -> None:
    origin = file.origin
    if origin:
        judged = {name: result[name] for name in ("continuous_bpd", "discrete_bpd")}
        known = {name: origin[name] for name in ("method", "weights", "asked", "reached", "covered_mass")}
        voice.out.print(results_table([Row(**known, **judged, seconds=seconds)], title))
        counts = origin["sizes"]
        voice.out.print(
            f"parameters: circuit {counts['circuit']:,}, VQ-VAE {counts['teacher']:,}, prior {counts['prior']:,}"
        )
        return
    continuous = result["continuous_bpd"]
    shown = "no density" if continuous is None else f"{continuous:.4f} continuous"
    voice.out.print(f"{title}: bits per dimension {shown}, {result['discrete_bpd']:.4f} discrete", highlight=False)
    voice.out.print(str(file.circuit.summary()), highlight=False)
