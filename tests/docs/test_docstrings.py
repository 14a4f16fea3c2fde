"""The examples in docstrings are true, and what is public says what it is."""

import doctest
import importlib
import inspect
import io
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

import pcircuits
import vq_sources

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> Iterator[ModuleType]:
    """Every module of both packages."""
    for package in (pcircuits, vq_sources):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def own(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that a module defines, also where a decorator wraps them."""
    for name, value in vars(module).items():
        unwrapped = inspect.unwrap(value) if callable(value) else value
        if (inspect.isclass(unwrapped) or inspect.isfunction(unwrapped)) and unwrapped.__module__ == module.__name__:
            yield name, value


def examples(module: ModuleType) -> Iterator[doctest.DocTest]:
    """The examples of a module, of what it defines, and of the methods of that."""
    parts = [("", ModuleType(module.__name__, module.__doc__)), *((f".{name}", value) for name, value in own(module))]
    for name, value in parts:
        for found in doctest.DocTestFinder().find(value, module.__name__ + name, module=False, globs=vars(module)):  # type: ignore[arg-type]
            if found.examples:
                yield found


MODULES = list(modules())
EXAMPLES = [example for module in MODULES for example in examples(module)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_in_docstrings_are_true(
    example: doctest.DocTest, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    report, state = io.StringIO(), torch.get_rng_state()
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.write, clear_globs=False)
    torch.set_rng_state(state)
    assert not failed, report.getvalue()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_module_says_what_it_is_and_what_it_offers(module: ModuleType) -> None:
    assert (module.__doc__ or "").strip(), "it opens with a sentence"
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"{name} has a docstring"


PUBLIC = [getattr(package, name) for package in (pcircuits, vq_sources) for name in package.__all__]


@pytest.mark.parametrize("cls", [p for p in PUBLIC if inspect.isclass(p)], ids=lambda cls: cls.__name__)
def test_public_methods_have_docstrings(cls: type) -> None:
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            assert inspect.getdoc(getattr(cls, name)), f"{cls.__name__}.{name} has a docstring, its own or inherited"
