"""Out of memory names the bound to lower; files that declare terabytes are refused before memory is taken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

from pcircuits.errors import CircuitError, MemoryBoundError
from pcircuits.memory import is_out_of_memory, naming_the_bound
from vq_sources.cli.failures import reporting

pytestmark = pytest.mark.errors
ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("little_memory.py")
OF_THE_CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."
)
SAYINGS = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(OF_THE_CPU), MemoryError()]


def lines(*arguments: str | Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_query_that_does_not_fit_and_one_with_a_lower_bound() -> None:
    high, low = lines("query")
    assert high.startswith("high given ran out of memory, with a bound of 1048576 MiB")
    assert f"circuit.compile(memory={2**38})" in high
    assert "can't allocate memory" in high
    assert low == "low 20000"


def test_files_that_declare_terabytes(tmp_path: Path) -> None:
    *refused, taken = lines("files", tmp_path)
    assert refused == ["refused True"] * 12
    assert int(taken.split()[1]) < 30, taken


@pytest.mark.parametrize("error", SAYINGS, ids=lambda error: type(error).__name__)
def test_every_way_of_saying_it(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_out_of_memory(error)
    with (
        pytest.raises(
            MemoryBoundError, match=r"sample ran out of memory, with a bound of 100 bytes .*memory=25"
        ) as named,
        naming_the_bound("sample", 100),
    ):
        raise error
    assert isinstance(named.value, CircuitError)
    assert isinstance(named.value, MemoryError)
    with pytest.raises(typer.Exit) as ended, reporting():
        raise error
    assert ended.value.exit_code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: out of memory")
    assert "run the same command again" in said
    assert "circuit.compile(memory=...)" in said


def test_named_once_and_nothing_else_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(MemoryBoundError, match=r"^inner ran"),
        naming_the_bound("outer", 100),
        naming_the_bound("inner", 9),
    ):
        raise MemoryError
    for context in (naming_the_bound("mean", 100), reporting()):
        with pytest.raises(RuntimeError, match="shapes do not fit"), context:
            raise RuntimeError("shapes do not fit")
    with pytest.raises(typer.Exit), reporting(), naming_the_bound("mean", 2**20):
        raise MemoryError
    assert "error: mean ran out of memory, with a bound of 1 MiB" in " ".join(capsys.readouterr().err.split())
