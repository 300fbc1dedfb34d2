"""Whose bug it is: the owner of the offending frame.

==================================  ==============================================================
the frame stands in                 it belongs to
==================================  ==============================================================
``vfsim.sim``, ``locks``,           nobody: skipped
``checks``, ``explore``
``vfsim.fs``, ``mm``, ``block``     the kernel
``vfsim.testing``, ``vfsim.cli``    the test
anything else (user code, libfs)    the filesystem, if one of its methods runs in this task, the
                                    task was started by one, or it is an interrupt handler; else
                                    the test
==================================  ==============================================================

Two kinds of kernel frame pass the blame on.  A ``vfs_`` helper takes no lock of its own for the
directory it works on, so whoever calls it from outside the kernel without that lock is the one who
called the method wrongly.  And whoever calls the kernel with a freed object is the one who uses it
(`giver`).

A filesystem is named with the method of it that runs: ``filesystem ToyDir.create``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from vfsim.sim.state import K
from vfsim.sim.trace import is_engine

if TYPE_CHECKING:
    from types import FrameType

    from vfsim.checks.contract import Site
    from vfsim.sim.context import Held
    from vfsim.sim.task import Task

KERNEL, TEST = "kernel", "test"
KERNEL_MODULES = ("vfsim.fs.", "vfsim.mm.", "vfsim.block.")
_TEST = ("vfsim.testing.", "vfsim.cli.")
_WRAPPER = "vfsim.checks.wrapper"  # where the frames of checked methods' wrappers stand


class Culprit(NamedTuple):
    """Whose frame it is, and where: ``file:line``."""

    owner: str
    where: str


def blame(
    task: Task | None = None, frame: FrameType | None = None, outside: object = None
) -> Culprit:
    """Never sleeps.  The owner of the first frame above the engine, from ``frame`` outwards.

    Args:
        outside: the pin of a call that is looked at from its caller's side.
    """
    task = K.cur if task is None else task
    frame = sys._getframe(1) if frame is None else frame
    first: FrameType | None = None
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if is_engine(module):
            frame = frame.f_back
            continue
        first = first or frame
        if not module.startswith(KERNEL_MODULES) or not frame.f_code.co_name.startswith("vfs_"):
            break
        frame = frame.f_back
    if first is None:
        return Culprit(KERNEL, "")
    if frame is None or frame.f_globals["__name__"].startswith(KERNEL_MODULES):
        return Culprit(KERNEL, place(first))
    held = task.held if outside is None else below(task.held, outside)
    module, function = frame.f_globals["__name__"], frame.f_code.co_qualname
    return Culprit(owner_of(module, function, task, held), place(frame))


def giver(task: Task, frame: FrameType, obj: object) -> Culprit | None:
    """Never sleeps.  Who called into the kernel with an object that it must not have any more.

    None if the kernel came upon the object by itself, or had given it to the method that now gives
    it back.
    """
    entry: FrameType | None = None
    at: FrameType | None = frame
    while at is not None and (is_kernel(at) or is_engine(at.f_globals.get("__name__", ""))):
        entry = at if is_kernel(at) else entry
        at = at.f_back
    if at is None or entry is None or not _was_given(entry, obj):
        return None
    culprit = blame(task, at)
    while at is not None and at.f_globals.get("__name__") != _WRAPPER:
        at = at.f_back
    return None if at is not None and _was_given(at, obj) else culprit


def _was_given(frame: FrameType, obj: object) -> bool:
    """Whether a function was called with an object."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return any(frame.f_locals.get(name) is obj for name in names)


def owner_of(module: str, function: str, task: Task, held: Held | None) -> str:
    """Never sleeps.  Whose a function is that ran in ``task`` while it held ``held``."""
    if module.startswith(KERNEL_MODULES):
        return KERNEL
    if module.startswith(_TEST):
        return TEST
    site = running(held)
    if site is not None:
        return site.blamed
    if task.owner.startswith("filesystem"):
        return task.owner
    if task.kind or module.startswith("vfsim.filesystems"):
        return f"filesystem {function}"
    return TEST


def owner_of_child(creator: Task) -> str:
    """Never sleeps.  Whose a task is that ``creator`` starts: a method's, if one runs there."""
    site = innermost(creator)
    return creator.owner if site is None else site.blamed


def innermost(task: Task, outwards: int = 0) -> Site | None:
    """Never sleeps.  The contract call site that runs in a task, innermost, or None.

    Args:
        outwards: how many running calls to leave out.
    """
    held = task.held
    while held is not None and outwards:
        outwards -= held[0].is_pin
        held = held[1]
    return running(held)


def running(held: Held | None) -> Site | None:
    """Never sleeps.  The innermost contract call site on a held stack, or None."""
    while held is not None:
        if held[0].is_pin:
            return held[0].site  # type: ignore[no-any-return]
        held = held[1]
    return None


def below(held: Held | None, pin: object) -> Held | None:
    """Never sleeps.  What was held before a call began; all of it if the call is not running."""
    link = held
    while link is not None:
        if link[0] is pin:
            return link[1]  # type: ignore[no-any-return]
        link = link[1]
    return held


def is_kernel(frame: FrameType) -> bool:
    """Whether a frame is the kernel's."""
    return str(frame.f_globals.get("__name__", "")).startswith(KERNEL_MODULES)


def crossed(held: Held | None, lock: object) -> Culprit | None:
    """Never sleeps.  The filesystem's method that runs inside of ``lock``: its caller holds that.

    What the kernel takes further in, it takes because that method called it.  None if there is
    none, or if ``lock`` is not on the stack.
    """
    found: Culprit | None = None
    while held is not None:
        entry = held[0]
        if entry is lock and found is not None:  # a lock that is waited for lies on top, too
            return found
        if entry.is_pin and found is None and entry.site.blamed != KERNEL:
            found = Culprit(entry.site.blamed, entry.site.where)
        held = held[1]
    return None


def handler(task: Task) -> Culprit:
    """Never sleeps.  Whose the interrupt handler or callback is that runs in ``task``, which is the
    running one: the outermost frame above the engine.
    """
    frame: FrameType | None = sys._getframe(1)
    outermost = None
    while frame is not None:
        if not is_engine(frame.f_globals.get("__name__", "")):
            outermost = frame
        frame = frame.f_back
    if outermost is None:
        return Culprit(KERNEL, "")
    module, function = outermost.f_globals["__name__"], outermost.f_code.co_qualname
    return Culprit(owner_of(module, function, task, None), place(outermost))


def place(frame: FrameType) -> str:
    """``file:line`` of a frame, from the repository's root where it is vfsim's."""
    return f"{short(frame.f_code.co_filename)}:{frame.f_lineno}"


def short(filename: str) -> str:
    """A file's name as reports print it."""
    inside = filename.rfind("/vfsim/")
    return filename[inside + 1 :] if inside >= 0 else filename[filename.rfind("/") + 1 :]
