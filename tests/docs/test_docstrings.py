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


def with_examples() -> Iterator[str]:
    """The modules in which there is an example to run."""
    return (name for name in names() if ">>> " in inspect.getsource(importlib.import_module(name)))


@pytest.mark.usefixtures("_random_state_left_as_it_was")
@pytest.mark.parametrize("name", list(with_examples()))
def test_examples_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in examples(importlib.import_module(name)):
        runner.run(example, out=report.write, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()


def test_modules_say_what_they_are_and_what_they_offer() -> None:
    silent = []
    for name in names():
        module = importlib.import_module(name)
        if not (module.__doc__ or "").strip():
            silent.append(name)
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public)
            if (inspect.isclass(value) or inspect.isfunction(value)) and not (value.__doc__ or "").strip():
                silent.append(f"{name}.{public}")
    assert not silent, "these have no docstring"


def test_public_methods_have_docstrings() -> None:
    public = [getattr(package, name) for package in (pcircuits, vq_sources) for name in package.__all__]
    silent = []
    for cls in filter(inspect.isclass, public):
        for name, member in vars(cls).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not name.startswith("_") and inspect.isfunction(function) and not inspect.getdoc(getattr(cls, name)):
                silent.append(f"{cls.__name__}.{name}")
    assert not silent, "these have no docstring, neither their own nor an inherited one"


def test_the_examples_of_decorated_functions_and_methods_are_found() -> None:
    from pcircuits import learning
    from pcircuits.circuit.kinds import interface

    assert "pcircuits.circuit.kinds.interface.Units.prod" in {example.name for example in examples(interface)}
    fit = importlib.import_module(learning.fit.__module__)
    assert f"{fit.__name__}.fit" in {example.name for example in examples(fit)}
