"""Without its optional packages everything imports, and what needs one names the extra that brings it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.errors
ROOT = Path(__file__).parents[2]
OPTIONAL = ["torchvision", "vector_quantize_pytorch", "ignite", "tqdm", "sklearn", "matplotlib", "typer", "rich"]
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
FIT = """
import torch, pcircuits as pc
from pcircuits.learning import FitSettings, fit
x = torch.zeros(2, 1)
fit(pc.Circuit(pc.Normal("x", 0.0, 1.0)).compile(), x, x, settings=FitSettings(epochs=1), progress=True)
"""
NEEDED = {
    "torchvision": ("import vq_sources as vq; vq.load('mnist')", 'torchvision: pip install "pcircuits[vq]"'),
    "vector_quantize_pytorch": (
        "import vq_sources as vq; vq.VQVAE(vq.VQVAEConfig())",
        'vector-quantize-pytorch: pip install "pcircuits[vq]"',
    ),
    "sklearn": ("import vq_sources as vq; vq.load('digits')", 'scikit-learn: pip install "pcircuits[vq]"'),
    "ignite": (FIT, 'Training needs pytorch-ignite and tqdm: pip install "pcircuits[learn]"'),
    "tqdm": (FIT, 'Training needs pytorch-ignite and tqdm: pip install "pcircuits[learn]"'),
    "matplotlib": (
        "from vq_sources.report.drawing import new_figure; new_figure(2, 2)",
        'matplotlib: pip install "pcircuits[vq]"',
    ),
    "typer": (
        "from vq_sources.cli import main; main()",
        "vq-circuit needs typer and rich (No module named 'typer'): pip install \"pcircuits[vq]\"",
    ),
}


def run(missing: list[str], code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=set(missing)) + code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("package", NEEDED)
def test_the_extra_is_named(package: str) -> None:
    code, says = NEEDED[package]
    done = run([package], code)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert says in last
    assert last.startswith(("ImportError: ", "error: "))


def test_without_any_of_them_circuits_answer() -> None:
    code = """
import pcircuits as pc, vq_sources as vq
circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.Bernoulli("a", [0.0, 1.0])))
print(circuit.compile().mean().item(), vq.__name__)
"""
    done = run(OPTIONAL, code)
    assert (done.returncode, done.stdout) == (0, "0.5 vq_sources\n"), done.stderr
