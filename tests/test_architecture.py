"""The architecture, held by tests: arrows point down, one function suspends, docstrings say what
sleeps.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

import vfsim
from vfsim.sim import scheduler
from vfsim.sim.context import LockClass
from vfsim.sim.shared import POINTS, install
from vfsim.testing.check import check_filesystem

ROOT = Path(vfsim.__file__).parent
FLOORS = ["sim", "locks", "checks", "explore", "block", "mm", "fs", "filesystems", "testing", "cli"]
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT)


def floor_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def runtime_imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The vfsim modules that a file imports when it runs, annotations' imports left out."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(getattr(n, "lineno", 0) for n in ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node.lineno not in skipped:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            yield from ((name, node.lineno) for name in names if name.startswith("vfsim."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    """A file imports only from its own floor and the floors below."""
    mine = FLOORS.index(floor_of(path))
    for name, line in runtime_imports(ast.parse(path.read_text())):
        floor = name.split(".")[1]
        assert FLOORS.index(floor) <= mine, f"{path}:{line} imports {name}, which is above"


def calls_of(method: str) -> set[str]:
    """``module.function`` of every place that calls ``<something>.method()``."""
    found = set()
    for path in FILES:
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if (
                        isinstance(node, ast.Call)
                        and isinstance(node.func, ast.Attribute)
                        and node.func.attr == method
                    ):
                        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                        found.add(f"{module}.{function.name}")
    return found


def test_one_function_suspends() -> None:
    """Tasks wait through `Machine.schedule` alone, and it has exactly these callers."""
    assert calls_of("schedule") == {
        "sim.scheduler.block",
        "sim.scheduler.spin",
        "sim.scheduler.cpu_relax",
        "sim.machine._hub",  # these two ask who is next and switch themselves: the hub,
        "sim.machine.task_done",  # and a task that has ended
    }


def test_stacks_are_switched_in_the_engine_only() -> None:
    """Nothing above the engine touches a greenlet."""
    assert {name.split(".")[0] for name in calls_of("switch")} == {"sim"}


def modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(vfsim.__path__, "vfsim."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


IN_TASKS = ("vfsim.locks.", "vfsim.fs.", "vfsim.mm.", "vfsim.block.", "vfsim.sim.scheduler")


def test_modules_open_with_what_they_are_for() -> None:
    """Every file starts with a docstring."""
    for module in modules():
        assert (module.__doc__ or "").strip(), f"{module.__name__} says nothing"


def test_public_names_are_documented() -> None:
    """Every name that ``import vfsim`` offers exists and has a docstring."""
    assert sorted(vfsim.__all__) == sorted(set(vfsim.__all__))
    for name in vfsim.__all__:
        value = getattr(vfsim, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"vfsim.{name} has no docstring"


def test_every_lock_has_a_class() -> None:
    """No lock escapes the order rules: each class that was made has a name and a kind."""
    list(modules())
    assert LockClass.all
    assert all(c.name and c.kind for c in LockClass.all)


def says_never_sleeps(code: CodeType) -> bool:
    doc = code.co_consts[0] if code.co_consts else None
    return isinstance(doc, str) and doc.startswith("Never sleeps.")


def test_functions_in_tasks_say_whether_they_sleep() -> None:
    """The docstring of a public function in tasks opens with "Sleeps." or "Never sleeps."."""
    silent = []
    for module in modules():
        if not module.__name__.startswith(IN_TASKS) or ".operations" in module.__name__:
            continue
        for name, value in vars(module).items():
            if (
                isinstance(value, FunctionType)
                and value.__module__ == module.__name__
                and not name.startswith("_")
            ):
                doc = inspect.getdoc(value) or ""
                if not doc.startswith(("Sleeps.", "Never sleeps.")):
                    silent.append(f"{module.__name__}.{name}")
    assert not silent, silent


def methods_that_sleep() -> set[str]:
    """Names that only methods of locks have, and each of these says "Sleeps."."""
    said: dict[str, set[bool]] = {}
    for module in modules():
        if module.__name__.startswith("vfsim.locks."):
            for cls in own(module, type):
                for name, method in vars(cls).items():
                    if isinstance(method, FunctionType):
                        said.setdefault(name, set()).add(says_sleeps(method))
    return {name for name, answers in said.items() if answers == {True}}


def own(module: ModuleType, kind: type) -> Iterator[Any]:
    """What a module defines itself."""
    for value in vars(module).values():
        if isinstance(value, kind) and value.__module__ == module.__name__:
            yield value


def says_sleeps(fn: FunctionType) -> bool:
    """Whether a docstring says so, without "never sleeps" for some cases behind it."""
    doc = inspect.getdoc(fn) or ""
    return doc.startswith("Sleeps.") and "never sleeps" not in doc


def calls(fn: FunctionType) -> Iterator[ast.expr]:
    """What a function calls itself; what it defines is called by others."""
    waiting: list[ast.AST] = list(ast.parse(textwrap.dedent(inspect.getsource(fn))).body[0].body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            yield node.func
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_what_never_sleeps_calls_nothing_that_sleeps() -> None:
    """No function that says "Never sleeps." has a call of one that says "Sleeps.", nor one of a
    lock that is waited for asleep.
    """
    install(POINTS)  # an earlier test may have looked for races: its hooks say nothing
    asleep = methods_that_sleep()
    assert {"down_write", "wait_event"} <= asleep
    liars = []
    for module in modules():
        if not module.__name__.startswith((*IN_TASKS, "vfsim.filesystems.")):
            continue
        methods = (f for cls in own(module, type) for f in vars(cls).values())
        for fn in (*own(module, FunctionType), *methods):
            fn = inspect.unwrap(fn) if callable(fn) else fn
            if not isinstance(fn, FunctionType) or not says_never_sleeps(fn.__code__):
                continue
            for called in calls(fn):
                if isinstance(called, ast.Name):
                    other = fn.__globals__.get(called.id)
                    sleeps = isinstance(other, FunctionType) and says_sleeps(other)
                else:
                    sleeps = isinstance(called, ast.Attribute) and called.attr in asleep
                if sleeps:
                    liars.append(f"{module.__name__}.{fn.__qualname__}: {ast.unparse(called)}()")
    assert not liars, liars


def test_what_never_sleeps_never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No function whose docstring says "Never sleeps." is on a stack that goes to sleep."""
    liars: dict[str, None] = {}
    real = scheduler.block

    def watching(obj: object) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if says_never_sleeps(frame.f_code):
                liars[f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"] = None
            frame = frame.f_back
        real(obj)

    for module in list(modules()):
        if getattr(module, "block", None) is real:
            monkeypatch.setattr(module, "block", watching)
    for target in ("examples/toyfs.py", "examples/tinydisk.py"):
        check_filesystem(target, schedules=1)
    assert not liars, list(liars)
