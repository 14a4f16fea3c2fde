"""A few mutants of `mutants.py` in the default run; and every mutant still fits its file."""

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
mutants = sys.modules["mutants"] = importlib.util.module_from_spec(_spec)  # a dataclass looks its module up there
_spec.loader.exec_module(mutants)

QUICK = ("shifted-exponent", "unmasked-normaliser", "prior-samples-of-mixtures")
IN_A_SUITE = 120.0
"""Seconds for tests that take a few: other tests run beside these."""


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_its_file_and_compiles(mutant):
    compile(mutant.apply(mutants.ROOT), mutant.file, "exec")


def test_every_test_that_is_named_exists():
    named = sorted({test for mutant in mutants.MUTANTS for test in mutant.killed_by})
    with mutants.mutated(None) as folder:
        outcome = mutants.run(folder, [*named, "--collect-only"], IN_A_SUITE)
    assert outcome.code == 0, outcome.output


def test_names_are_distinct():
    names = [mutant.name for mutant in mutants.MUTANTS]
    assert len(set(names)) == len(names) >= 12


def test_text_that_is_gone_or_there_twice_is_named():
    gone = mutants.Mutant("gone", "nothing", "pcircuits/errors.py", "no such text", "", ())
    twice = mutants.Mutant("twice", "nothing", "pcircuits/errors.py", "class ", "", ())
    for mutant in (gone, twice):
        with pytest.raises(mutants.DoesNotFit, match=rf"{mutant.name}: .* times in pcircuits/errors.py"):
            mutant.apply(mutants.ROOT)


def test_their_tests_pass_without_them():
    mutants.passing([mutant for mutant in mutants.MUTANTS if mutant.name in QUICK], IN_A_SUITE)


@pytest.mark.parametrize("name", QUICK)
def test_quick_mutants_are_noticed(name):
    (mutant,) = (mutant for mutant in mutants.MUTANTS if mutant.name == name)
    killed, outcome = mutants.judge(mutant, IN_A_SUITE)
    assert killed, outcome.output
