"""`vq-circuit sample`: a sheet of samples of a circuit file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vq_sources.cli.circuit_files import chosen_root, image_shape, open_circuit
from vq_sources.cli.failures import reporting
from vq_sources.cli.judging import drawn_images
from vq_sources.cli.options import Device, Out, Root, Seed, check_device
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import Workspace, settings_of
from vq_sources.report import picture_samples

__all__ = ["sample"]


def sample(
    circuit: Annotated[Path, typer.Argument(help="A circuit file.", show_default=False)],
    count: Annotated[int, typer.Option(help="How many.", min=1, max=400)] = 50,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Draw independent samples of a circuit into samples.png.

    Default folder: runs/sample-CIRCUIT.
    """
    with reporting():
        check_device(device)
        file = open_circuit(circuit)
        shape, chosen = image_shape(file.circuit), chosen_root(file, root)
        voice = Voice()
        folder = out or Path("runs", f"sample-{circuit.stem}")
        asked = {"circuit": file.digest, "count": count, "root": chosen, "seed": seed, "device": device}
        with Workspace.open(folder, settings_of("sample", asked)) as workspace:

            def compute() -> dict[str, Any]:
                title = f"{count} samples of {circuit.name}" + (f", root {chosen}" if root is not None else "")
                with voice.step(f"drawing {count} samples"):
                    drawn = drawn_images(file.circuit, count, shape, device, seed, chosen)
                    picture_samples(drawn, workspace.path("samples.png"), title)
                return {}

            workspace.stage("sample", compute, ["samples.png"])
        voice.out.print(f"In [bold]{folder / 'samples.png'}[/].", highlight=False, soft_wrap=True)
