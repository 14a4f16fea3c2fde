"""`vq-circuit inpaint`: hidden parts of images, by a circuit file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vq_sources.cli.circuit_files import open_circuit
from vq_sources.cli.evaluate import dataset_of, images_for
from vq_sources.cli.failures import reporting
from vq_sources.cli.judging import Hidden, inpainting_facts, inpainting_picture
from vq_sources.cli.options import DataRoot, DatasetName, Device, Download, Out, Seed, Split, check_device
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import Workspace, settings_of
from vq_sources.report import write_json

__all__ = ["inpaint"]


def inpaint(
    circuit: Annotated[Path, typer.Argument(help="A circuit file.", show_default=False)],
    hide: Annotated[Hidden, typer.Option(help="The part that is hidden.")] = Hidden.bottom,
    rows: Annotated[int, typer.Option(help="Images in the picture.", min=1, max=20)] = 6,
    dataset: Annotated[
        DatasetName | None, typer.Option(help="The images; by default those it was made from.", show_default=False)
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of them.")] = Split.test,
    images: Annotated[int, typer.Option(help="How many of them the numbers are of.", min=1)] = 200,
    data_root: DataRoot = None,
    download: Download = False,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Hide a part of images and fill it in: exact conditional means and samples, in inpainting.png.

    Prints the PSNR of the conditional mean on hidden pixels, and what a hidden pixel costs in bits given the visible ones.

    Default folder: runs/inpaint-CIRCUIT.
    """
    with reporting():
        check_device(device)
        file = open_circuit(circuit)
        name = dataset.value if dataset is not None else dataset_of(file)
        asked = {"circuit": file.digest, "hide": hide.value, "rows": rows, "dataset": name, "split": split.value}
        data = images_for(file, name, data_root, download)
        voice = Voice()
        folder = out or Path("runs", f"inpaint-{circuit.stem}")
        settings = {**asked, "images": images, "seed": seed, "device": device}
        with Workspace.open(folder, settings_of("inpaint", settings)) as workspace:

            def compute() -> dict[str, Any]:
                chosen = getattr(data, split.value).images[:images]
                path, title = workspace.path("inpainting.png"), f"{name}: the {hide.value} part given the rest"
                with voice.step(f"inpainting {len(chosen):,} images"):
                    facts = inpainting_facts(file.circuit, chosen, data.levels, hide, device, seed)
                    inpainting_picture(file.circuit, chosen[:rows], data.levels, hide, path, title, device, seed)
                return facts

            result, seconds = workspace.stage("inpaint", compute, ["inpainting.png"])
            report = {"command": "inpaint", **asked, **result, "origin": dict(file.origin), "seconds": seconds}
            write_json(workspace.path("report.json"), report)
        voice.out.print(
            f"PSNR {result['psnr']:.2f} dB, {result['conditional_bits_per_hidden_pixel']:.3f} bits per hidden pixel "
            f"({'continuous' if result['continuous'] else 'discrete'}), {result['images']:,} images\n"
            f"In [bold]{folder / 'inpainting.png'}[/].",
            highlight=False,
            soft_wrap=True,
        )
