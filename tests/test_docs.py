"""README and docs are run: Python blocks execute, console blocks print what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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
