"""The command where the terminal, or the file that it writes into, cannot hold every sign."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "utf-8"])
def test_help_is_printed_in_every_encoding(encoding: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "vq_sources.cli", "evaluate", "--help"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(encoding)
    said = done.stdout.decode(encoding)
    assert "vq-circuit evaluate" in said
    assert ("−" in said) == (encoding == "utf-8")
