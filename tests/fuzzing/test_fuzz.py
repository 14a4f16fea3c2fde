"""A few circuits of `tests/fuzz.py` in the default run; that it notices, resumes and reproduces."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import pcircuits as pc

_spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parents[1] / "fuzz.py")
fuzz = sys.modules["fuzz"] = importlib.util.module_from_spec(_spec)  # a dataclass looks its module up there
_spec.loader.exec_module(fuzz)


@pytest.fixture(autouse=True)
def _threads_left_as_they_were():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_25_circuits(capsys):
    assert fuzz.main(["--circuits", "25"]) == 0
    assert "25 circuits" in capsys.readouterr().out


def test_an_index_draws_the_same_again():
    assert fuzz.attempt(3, 4) == fuzz.attempt(3, 4) != fuzz.attempt(3, 5)


@pytest.fixture
def broken(monkeypatch):
    """An engine whose means are far off, given one row."""
    right = pc.Conditioned.mean
    monkeypatch.setattr(pc.Conditioned, "mean", lambda self: right(self) + 1e30, raising=False)


@pytest.mark.usefixtures("broken")
def test_failures_are_printed_with_their_reproduction(capsys):
    assert fuzz.main(["--circuits", "3", "--seed", "2"]) == 1
    printed = capsys.readouterr().out
    assert "3 failures (AssertionError)" in printed
    assert "python tests/fuzz.py --only 1 --seed 2    # AssertionError: mean is" in printed
    assert fuzz.main(["--only", "1", "--seed", "2"]) == 1
    assert "AssertionError: mean is" in capsys.readouterr().err


@pytest.mark.usefixtures("broken")
def test_a_run_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    state, asked = tmp_path / "state.json", []
    attempt = fuzz.attempt

    def counted(seed, index):
        asked.append(index)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return attempt(seed, index)

    monkeypatch.setattr(fuzz, "attempt", counted)
    with pytest.raises(KeyboardInterrupt):
        fuzz.main(["--circuits", "4", "--state", str(state)])
    assert json.loads(state.read_text())["next"] == 2
    assert fuzz.main(["--circuits", "4", "--state", str(state)]) == 1
    assert asked == [0, 1, 2, 2, 3]
    assert [failure["index"] for failure in json.loads(state.read_text())["failures"]] == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == [state]
    with pytest.raises(SystemExit):
        fuzz.main(["--circuits", "4", "--seed", "9", "--state", str(state)])
    assert "--seed 0, not 9" in capsys.readouterr().err
