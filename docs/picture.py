"""Draw the floors from the real imports; a test compares it with the architecture page."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "vfsim"
FLOORS = [
    ["cli"],
    ["testing"],
    ["filesystems"],
    ["fs", "mm", "block"],
    ["checks", "explore"],
    ["locks"],
    ["sim"],
]
TITLES = ["faces", "testing", "filesystems", "kernel", "judging, searching", "locks", "engine"]


def imports(folder: str) -> set[str]:
    """The other folders that a folder's files import when they run."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        hidden = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in hidden:
                continue
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found |= {n.split(".")[1] for n in names if n.startswith("vfsim.")}
    return found - {folder}


def picture() -> str:
    """One line per folder, top floor first: what it stands on."""
    order = [folder for floor in FLOORS for folder in floor]
    lines = []
    for number, (title, floor) in enumerate(zip(TITLES, FLOORS, strict=True)):
        for folder in floor:
            below = " ".join(f for f in order if f in imports(folder))
            head = f"{7 - number}  {title}" if folder == floor[0] else ""
            lines.append(f"{head:<24}{folder:<13}→ {below or '(nothing)'}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(picture())
