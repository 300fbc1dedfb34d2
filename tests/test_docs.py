"""README and docs are run: Python blocks execute, console blocks print what they say.

What a page quotes from the sources stands in a block of language ``py``, whose first line says from
which file and function; ``...`` alone on a line stands for lines left out.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETUP = ("make ", "pip ", "git ", "cd ", ".ci/")


class Block(NamedTuple):
    """A fenced block: its language, its text, its line."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(m.group(1), m.group(2), text.count("\n", 0, m.start()) + 1)
        for m in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
    ]


def commands(text: str) -> list[tuple[str, str]]:
    """(command, expected output) for each ``$`` line of a console block."""
    parts = re.split(r"^\$ ", text, flags=re.M)[1:]
    return [(p.partition("\n")[0], p.partition("\n")[2]) for p in parts]


def matches(expected: str, got: str) -> bool:
    """Whether ``got`` is ``expected``, where ``...`` stands for anything, lines too."""
    words = [re.escape(part) for part in re.split(r"\.\.\.", expected.strip())]
    return re.fullmatch(".*?".join(words), got.strip(), re.S) is not None


def source_of(path: Path, name: str) -> str:
    """The lines of a function or method, as they stand in its file."""
    text = path.read_text()
    nodes: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        found = next((n for n in nodes if isinstance(n, kinds) and n.name == part), None)
        assert found is not None, f"{path}: there is no {name}"
        nodes = found.body
    assert found is not None
    lines = text.splitlines()[found.lineno - 1 : found.end_lineno]
    return "\n".join(lines)


def untrue(quote: str) -> str:
    """The first piece of a quote that its source does not have, whole lines and in order, or ""."""
    head, _, text = quote.partition("\n")
    file, name = re.fullmatch(r"# (\S+\.py): (\S+)", head).groups()  # type: ignore[union-attr]
    source = "\n" + textwrap.dedent(source_of(ROOT / file, name)) + "\n"
    for piece in re.split(r"^ *\.\.\.\n", text, flags=re.M):
        lines = textwrap.dedent(piece).strip("\n")
        deep = (f"\n{textwrap.indent(lines, ' ' * n)}\n" for n in range(0, 40, 4))
        at = max(source.find(candidate) for candidate in deep)
        if not lines or at < 0:
            return f"{file}: {name} has no longer, here:\n{piece}"
        source = source[at + 1 + len(lines) :]
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_what_a_page_quotes_is_in_the_sources(page: Path) -> None:
    """Line by line, in the function that the quote names."""
    for block in blocks(page):
        if block.language == "py":
            wrong = untrue(block.text)
            assert not wrong, f"{page.name}:{block.line}: {wrong}"


def test_an_untrue_quote_is_noticed() -> None:
    """A changed line, half a line, a wrong order, another function; and the page has quotes."""
    quotes = [b.text for b in blocks(ROOT / "docs" / "path-lookup.md") if b.language == "py"]
    quote = next(q for q in quotes if q.startswith("# vfsim/fs/rcu_walk.py: lookup_rcu\n"))
    head, *lines = quote.splitlines()
    changed = (
        quote.replace("raise ECHILD()", "raise ESTALE()"),
        quote.replace("raise ECHILD()", "raise ECHILD("),
        quote.replace("        raise ECHILD()\n", ""),
        "\n".join((head, lines[-1], "...", lines[0], "")),
        quote.replace(": lookup_rcu", ": follow_dotdot_rcu"),
    )
    assert not untrue(quote)
    assert all(untrue(other) for other in changed)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page_runs(page: Path, tmp_path: Path) -> None:
    """Every block of the page does what the page says."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    bin_dir = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "COLUMNS": "100"}
    env["PYTHONPATH"] = str(ROOT)
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.language == "python":
            name = re.match(r"# (\S+\.py)\b", block.text)
            file = tmp_path / (name.group(1) if name else "block.py")
            file.write_text(block.text)
            run = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", str(file)]
            command = run if file.name.startswith("test_") else [sys.executable, str(file)]
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{where}: {done.stdout}{done.stderr}"
        elif block.language == "console":
            for command_line, expected in commands(block.text):
                if command_line.startswith(SETUP):
                    continue
                done = subprocess.run(
                    command_line, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True
                )
                assert done.returncode in (0, 1), f"{where}: $ {command_line}\n{done.stderr}"
                if expected.strip():
                    assert matches(expected, done.stdout), f"{where}: printed\n{done.stdout}"


def test_the_picture_is_drawn_from_the_imports() -> None:
    """The architecture page shows the real arrows."""
    drawn = subprocess.run(
        [sys.executable, "docs/picture.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert drawn.stdout.strip() in (ROOT / "docs" / "architecture.md").read_text()
