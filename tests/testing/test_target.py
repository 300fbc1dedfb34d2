"""Targets: what is found, and one clear sentence for whatever is wrong with one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfsim.testing.target import BadTarget, load

FS = """
from vfsim.fs import FileSystemType
class OneFS(FileSystemType):
    name = "one"
"""
TWO = FS + "class TwoFS(FileSystemType):\n    name = 'two'\n"
SCENARIO = """
import vfsim
from vfsim.filesystems.ramfs import RamFS
class Sc(vfsim.Scenario):
    filesystem = RamFS
    @vfsim.task
    def one(self, sys): pass
def function(machine): pass
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, and no traces of what is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if not name.startswith("vfsim."):
            del sys.modules[name]


def write(text: str, name: str = "mine.py") -> str:
    Path(name).write_text(text)
    return name


def refusal(target: str, what: str = "filesystem") -> str:
    """The sentence with which a target is refused."""
    with pytest.raises(BadTarget) as caught:
        loaded = load(target)
        loaded.filesystem() if what == "filesystem" else loaded.scenario()
    text = str(caught.value)
    assert "\n" not in text and "Traceback" not in text
    return text


def test_a_file_with_one_filesystem() -> None:
    """By path alone, by name, as a module, and from another folder."""
    write(FS)
    Path("sub").mkdir()
    write(FS, "sub/other.py")
    for target in ("mine.py", "mine.py:OneFS", "mine", "mine:OneFS", "./mine.py", "sub/other.py"):
        assert load(target).filesystem().__name__ == "OneFS"


def test_an_installed_module() -> None:
    """vfsim's own filesystems are targets, too."""
    assert load("vfsim.filesystems.ramfs").filesystem().__name__ == "RamFS"


def test_a_file_beside_others() -> None:
    """A target imports its neighbours, and what it imports does not count as its own."""
    write(FS, "neighbour.py")
    target = write("from neighbour import OneFS\nclass Mine(OneFS):\n    name = 'mine'\n")
    assert load(target).filesystem().__name__ == "Mine"
    assert (
        load(write("from neighbour import OneFS\n", "borrow.py")).filesystem().__name__ == "OneFS"
    )


def test_a_base_class_is_not_the_filesystem() -> None:
    """A nameless base of others does not count, nor does what begins with an underscore."""
    text = FS.replace('    name = "one"', "    pass")
    text += "class Mine(OneFS):\n    name = 'm'\nclass _Hidden(FileSystemType):\n    name = 'h'\n"
    assert load(write(text)).filesystem().__name__ == "Mine"
    assert refusal(write(FS + "class Mine(OneFS):\n    name = 'm'\n", "two.py")).startswith(
        "two.py holds 2 filesystems (OneFS, Mine)"
    )


def test_names_of_others_can_be_used() -> None:
    """A file may be called like a module of Python's, or like no module at all."""
    for name in ("random.py", "errno.py", "1-2.py", "vfsim.py", "class.py"):
        assert load(write(FS, name)).filesystem().__name__ == "OneFS"
    import random

    assert hasattr(random, "Random")


def test_scenarios_are_told_from_functions() -> None:
    """What a token may name: a scenario, or a function over locks."""
    write(SCENARIO)
    assert load("mine.py").holds_scenario() and load("mine.py:Sc").holds_scenario()
    assert load("mine.py:Sc").scenario().__name__ == "Sc"
    assert load("mine.py").function() is None and load("mine.py:Sc").function() is None
    assert load("mine.py:function").function().__name__ == "function"
    assert not load("mine.py:function").holds_scenario()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "mine.py holds no filesystem: it defines no subclass of FileSystemType"),
        (TWO, "mine.py holds 2 filesystems (OneFS, TwoFS): name one, as in mine.py:OneFS"),
        ("x = (\n", "mine.py:1: this is not Python: '(' was never closed"),
        ("import nothing_of_that_name\n", "mine.py:1: mine.py cannot be imported: No module named"),
        ("\n\nx = 1 / 0\n", "mine.py:3: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "mine.py:2: importing mine.py ends the program"),
        ("def f():\n    raise KeyError\nf()\n", "mine.py:2: KeyError: KeyError"),
    ],
)
def test_wrong_files(text: str, sentence: str) -> None:
    """A file that cannot be used is refused with a sentence that begins with the author's line."""
    assert refusal(write(text)).startswith(sentence)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("    def creat(self, dir, dentry, mode, excl): pass\n", "did you mean create"),
        ("    def create(self, parent, dentry, mode, excl): pass\n", "parent"),
        ("    def create(self, dir, dentry, mode): pass\n", "excl"),
        ("    async def create(self, dir, dentry, mode, excl): pass\n", "plain def"),
    ],
)
def test_wrong_methods(body: str, sentence: str) -> None:
    """A misspelt method or parameter is the contract's TypeError, after the author's line."""
    text = "from vfsim.fs import InodeOperations\nclass Mine(InodeOperations):\n" + body + FS
    told = refusal(write(text))
    assert told.startswith("mine.py:2: ") and sentence in told and "TypeError" not in told


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("nothing.py", "there is no file nothing.py"),
        ("no/such/file.py:X", "there is no file no/such/file.py"),
        ("nothing", "there is no module nothing (no file of that name here either)"),
        ("nothing.at.all", "there is no module nothing.at.all"),
        ("", "a target is file.py, file.py:Name, module or module:Name; got ''"),
        (":X", "a target is"),
        ("mine.py:", "a target is"),
        ("mine.py:a.b", "a target is"),
        ("mine.py:OneF", "mine.py holds nothing called OneF; did you mean OneFS?"),
        ("mine.py:FileSystemType", "FileSystemType in mine.py is no filesystem"),
        ("mine.py:Path", "mine.py holds nothing called Path"),
        (".", "there is no file ., and it is no module's name either"),
        ("a b", "there is no file a b, and it is no module's name either"),
        ("..", "there is no file .."),
        ("/", "/ is a directory"),
        ("sub.py", "sub.py is a directory"),
    ],
)
def test_wrong_names(target: str, sentence: str) -> None:
    """A target that is not there is refused with a sentence that names it."""
    write(FS)
    Path("sub.py").mkdir()
    assert refusal(target).startswith(sentence)


def test_scenarios_are_looked_for_by_name() -> None:
    """The same sentences for scenarios."""
    write(FS)
    assert refusal("mine.py", "scenario").startswith("mine.py holds no scenario")
    assert refusal("mine.py:OneFS", "scenario").startswith("OneFS in mine.py is no scenario")


def test_a_filesystem_that_wants_arguments() -> None:
    """A filesystem that cannot be made without arguments is refused with that reason."""
    told = refusal(write(FS + "    def __init__(self, colour): pass\n"))
    assert "OneFS() cannot be made without arguments" in told and "colour" in told
    told = refusal(write(FS + "    def __init__(self):\n        raise KeyError(5)\n", "b.py"))
    assert told.startswith("b.py:6: OneFS() cannot be made")


def test_a_broken_import_leaves_nothing_behind() -> None:
    """After the mistake is mended, the same target can be loaded."""
    write("x = (\n")
    refusal("mine.py")
    write(FS)
    assert load("mine.py").filesystem().__name__ == "OneFS"


@given(st.text(max_size=30))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_target_or_refused(text: str) -> None:
    """Whatever is typed, it is loaded or refused, never a traceback."""
    try:
        load(text)
    except BadTarget as error:
        assert "\n" not in str(error).strip()
