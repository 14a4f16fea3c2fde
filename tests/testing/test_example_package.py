"""The example with a family and a source of its own: its tests pass, from outside, and its script runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "own_family_and_source"


@pytest.mark.parametrize(
    "command",
    [["-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE)], [str(PACKAGE / "run.py"), "--smoke"]],
    ids=["tests", "script"],
)
def test_it_runs(command: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout or "P(at most 3 on Sunday" in done.stdout
