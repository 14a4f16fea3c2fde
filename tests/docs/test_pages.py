"""The code in README and docs runs, and prints what the pages say; their links lead somewhere."""

import contextlib
import doctest
import io
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"```(\w*)\s*$")


@dataclass(frozen=True)
class Block:
    """Python code, the number of lines before it, and what the page says that it prints (None: nothing is said)."""

    code: str
    line: int
    printed: str | None


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks in `python`; a block in `text` right after one is what that one prints."""
    fenced: list[tuple[str, int, int, str]] = []  # language, first line, line after it, content
    opened: tuple[str, int] | None = None
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if opened is not None and line == "```":
            language, first = opened
            fenced.append((language, first, number + 1, "\n".join(lines[first:number]) + "\n"))
            opened = None
        elif opened is None and (fence := FENCE.match(line)):
            opened = fence[1], number + 1
    assert opened is None, f"the block at line {opened} has no end"
    for (language, first, end, code), following in zip(fenced, [*fenced, None][1:], strict=True):
        if language == "python":
            follows = following is not None and following[0] == "text"
            follows = follows and not "".join(lines[end : following[1] - 1]).strip()
            yield Block(code, first, following[3] if follows else None)


def run(block: Block, page: str, namespace: dict[str, Any]) -> None:
    """Run a block in a namespace, as a script or, where it starts with a prompt, as a session; compare what it prints."""
    if block.code.lstrip().startswith(">>>"):
        session = doctest.DocTestParser().get_doctest(block.code, {}, page, page, block.line)
        session.globs = namespace
        report = io.StringIO()
        failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(session, out=report.write, clear_globs=False)
        assert not failed, report.getvalue()
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * block.line + block.code, page, "exec"), namespace)
    if block.printed is not None:
        agrees = doctest.OutputChecker().check_output(block.printed, printed.getvalue(), FLAGS)
        assert agrees, f"{page}, line {block.line}: it says\n{block.printed}\nand the code prints\n{printed.getvalue()}"


@pytest.fixture
def _torch_left_as_it_was() -> Iterator[None]:
    before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_rng_state()
    yield
    torch.set_grad_enabled(before[0])
    torch.set_default_dtype(before[1])
    torch.set_rng_state(before[2])


@pytest.mark.errors  # pages show errors too
@pytest.mark.usefixtures("_torch_left_as_it_was")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text(encoding="utf-8")):
        run(block, str(page.relative_to(ROOT)), namespace)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if heading:
            assert heading in _anchors(file.read_text(encoding="utf-8")), f"{target} is no heading of {file.name}"


def _anchors(text: str) -> set[str]:
    """The anchors that headings get when the page is rendered."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_on_architecture_names_files_that_exist(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:pcircuits|vq_sources|docs)/[\w/.]+)`", page)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []
    script = ROOT / "docs" / "images" / "architecture.py"
    for box in runpy.run_path(str(script))["BOXES"].values():
        for name in box[-1].split(", "):
            assert any(f"{place}/{name}" in page or f"`{name}`" in page for place in _folders(page)), name
    drawn = tmp_path / "drawn.png"
    subprocess.run([sys.executable, str(script), "--out", str(drawn)], check=True)
    assert drawn.stat().st_size > 10_000


def _folders(page: str) -> set[str]:
    """The folders of the files that a page names."""
    return {name.rpartition("/")[0] for name in re.findall(r"`([\w/]+/[\w.]*)`", page)}


def test_the_runner_notices_wrong_output_and_wrong_code() -> None:
    wrong_print = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    wrong_session = "```python\n>>> 1 + 1\n3\n```\n"
    for text in (wrong_print, wrong_session):
        (block,) = blocks(text)
        with pytest.raises(AssertionError, match="2"):
            run(block, "a page", {})
    prose_between = "```python\nprint(1)\n```\nAnd then:\n```text\nanything\n```\n"
    (block,) = blocks(prose_between)
    assert block.printed is None
    with pytest.raises(ZeroDivisionError):
        run(Block("1 / 0\n", 0, None), "a page", {})
