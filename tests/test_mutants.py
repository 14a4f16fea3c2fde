"""A few mutants of `mutants.py` in the default run; and every mutant still finds what it replaces."""

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


def test_every_mutant_finds_what_it_replaces_and_puts_it_back():
    for mutant in mutants.MUTANTS:
        with mutants.applied(mutant) as patches:
            assert patches.count, mutant.name
        assert not patches.count


def test_every_test_that_is_named_exists():
    named = sorted({test for mutant in mutants.MUTANTS for test in mutant.killed_by})
    outcome = mutants.run(None, named, IN_A_SUITE, "--collect-only")
    assert outcome.code == 0, outcome.output


def test_names_are_distinct():
    names = [mutant.name for mutant in mutants.MUTANTS]
    assert len(set(names)) == len(names) >= 40


def test_what_is_gone_is_named():
    gone = mutants.Mutant("gone", "nothing", (), lambda patch: patch(mutants.edges.Gather, "no_such", lambda old: old))
    with pytest.raises(AttributeError, match="Gather has no no_such of its own"), mutants.applied(gone):
        pass


def test_functions_are_replaced_where_they_were_imported_to():
    kept = mutants.numbers.log2
    with mutants.applied(next(m for m in mutants.MUTANTS if m.name == "gradient-of-zero")):
        assert mutants.sums.log2 is mutants.numbers.log2 is not kept
    assert mutants.sums.log2 is mutants.numbers.log2 is kept


def test_their_tests_pass_without_them():
    mutants.passing([mutant for mutant in mutants.MUTANTS if mutant.name in QUICK], IN_A_SUITE)


@pytest.mark.parametrize("name", QUICK)
def test_quick_mutants_are_noticed(name):
    (mutant,) = (mutant for mutant in mutants.MUTANTS if mutant.name == name)
    killed, outcome = mutants.judge(mutant, IN_A_SUITE)
    assert killed, outcome.output
