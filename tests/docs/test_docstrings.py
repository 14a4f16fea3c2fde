"""The examples in docstrings are true, and what is public says what it is."""

import doctest
import importlib
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import pcircuits
import vq_sources

ROOT = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def names() -> Iterator[str]:
    """Every module of both packages."""
    for package in ("pcircuits", "vq_sources"):
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__":
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that a module defines, also where a decorator wraps them."""
    for name, value in vars(module).items():
        unwrapped = inspect.unwrap(value) if callable(value) else value
        if (inspect.isclass(unwrapped) or inspect.isfunction(unwrapped)) and unwrapped.__module__ == module.__name__:
            yield name, value


def examples(module: ModuleType) -> Iterator[doctest.DocTest]:
    """The examples of a module, of what it defines, and of the methods of that."""
    parts = [("", ModuleType(module.__name__, module.__doc__)), *((f".{name}", value) for name, value in own(module))]
    finder = doctest.DocTestFinder()
    for name, value in parts:
        found = finder.find(value, module.__name__ + name, module=False, globs=vars(module))  # type: ignore[arg-type]
        yield from (example for example in found if example.examples)


@pytest.fixture
def _random_state_left_as_it_was() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.mark.usefixtures("_random_state_left_as_it_was")
@pytest.mark.parametrize("name", list(names()))
def test_examples_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in examples(importlib.import_module(name)):
        runner.run(example, out=report.write, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()


@pytest.mark.parametrize("name", list(names()))
def test_a_module_says_what_it_is_and_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), "it opens with a sentence"
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"{public} has a docstring"


PUBLIC = [getattr(package, name) for package in (pcircuits, vq_sources) for name in package.__all__]


@pytest.mark.parametrize("cls", [p for p in PUBLIC if inspect.isclass(p)], ids=lambda cls: cls.__name__)
def test_public_methods_have_docstrings(cls: type) -> None:
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            assert inspect.getdoc(getattr(cls, name)), f"{cls.__name__}.{name} has a docstring, its own or inherited"


def test_the_examples_of_decorated_functions_and_methods_are_found() -> None:
    from pcircuits import learning
    from pcircuits.circuit.kinds import interface

    assert "pcircuits.circuit.kinds.interface.Units.prod" in {example.name for example in examples(interface)}
    fit = importlib.import_module(learning.fit.__module__)
    assert f"{fit.__name__}.fit" in {example.name for example in examples(fit)}
