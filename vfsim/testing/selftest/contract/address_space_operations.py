"""Mutants of ``address_space_operations``: pages read, changed and dropped.

What ``writepage`` and ``writepages`` owe is in `vfsim.testing.selftest.contract.writepage`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vfsim.fs.process import current_process
from vfsim.fs.read_write import vfs_read, vfs_write
from vfsim.locks.spinlock import SpinLock
from vfsim.mm.mapping import delete_from_page_cache, find_get_pages, put_pages
from vfsim.mm.operations import GFP_DIRECT_RECLAIM
from vfsim.mm.page import lock_page, put_page, unlock_page
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import keeping, without
from vfsim.testing.selftest.contract.grounds import BareGround, LaundryGround
from vfsim.testing.selftest.contract.notation import Row
from vfsim.testing.selftest.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.file import File
    from vfsim.fs.syscalls import Sys
    from vfsim.mm.page import Page
    from vfsim.testing.selftest.changes import Call
    from vfsim.testing.selftest.mutants import Program

LOCKED, I_MUTEX = "PageLocked(page)", "i_mutex"


def _row(method: str, program: Program, variant: str = "", **other: Any) -> Row:
    return Row("address_space_operations", method, program, variant=variant, **other)


# "yes": method, program
PAGE_LOCKED = (
    _row("invalidatepage", programs.truncate),
    _row("releasepage", programs.read_back),
    _row("freepage", programs.truncate),
    _row("launder_page", programs.launder, ground=LaundryGround),
)

ALL_MAY_BLOCK = (
    _row("readpage", programs.read_back),
    _row("writepage", programs.write_back),
    _row("writepages", programs.write_back),
    _row("write_begin", programs.write),
    _row("write_end", programs.write),
    _row("invalidatepage", programs.truncate),
    _row("launder_page", programs.launder, ground=LaundryGround),
)


def mutants() -> Iterator[Mutant]:
    """All of them."""
    for row in PAGE_LOCKED:
        yield from row.shared(LOCKED, "page.lock")
    for i, row in enumerate(ALL_MAY_BLOCK):
        yield from row.may_block(rule="P17", variant=row.method if i else "")
    yield from _locks_and_unlocks()
    yield from _set_page_dirty()
    yield from _never_block()
    yield from _reading()
    yield from _dropping()
    yield from _laundering()
    yield from _loop_device()


def _locks_and_unlocks() -> Iterator[Mutant]:
    """write_begin returns with the page locked, write_end without; both under i_mutex."""
    begin, end = _row("write_begin", programs.write), _row("write_end", programs.write)
    for row in (begin, end):
        yield from row.yes(I_MUTEX, "mapping.host.i_rwsem")
    cell = f"address_space_operations.write_begin.{LOCKED}"
    yield begin.filesystem(cell, "returns with the page unlocked", _unlocked_page)
    yield begin.filesystem(cell, "raises with a page still locked", _locked_on_error, "error",
                           fires=(cell, "address_space_operations.write_begin.exit"))  # fmt: skip
    cell = f"address_space_operations.write_end.{LOCKED}"
    yield end.caller(cell, "is called without the page lock", without("page.lock"))
    yield end.filesystem(cell, "returns with the page locked", keeping("page.lock"))


def _unlocked_page(call: Call) -> Any:
    page, fsdata = call.go()
    unlock_page(page)
    return page, fsdata


def _locked_on_error(call: Call) -> Any:
    page, _ = call.go()
    put_page(page)
    raise OSError(5, "EIO")


def _set_page_dirty() -> Iterator[Mutant]:
    """It may be called with the page unlocked (P42), and under a spinlock (P41)."""
    row = _row("set_page_dirty", programs.dirty_a_page)
    cell = f"address_space_operations.set_page_dirty.{LOCKED}"
    for rule in (cell, "P42"):
        yield from row.maybe("", "page.lock", rule, fires=(cell, "P42"))
    yield from row.never_blocks(rule="P41")


def _never_block() -> Iterator[Mutant]:
    """freepage must not sleep, and releasepage not if its gfp says so."""
    yield from _row("freepage", programs.truncate, "freepage").never_blocks(rule="P17")
    release = _row("releasepage", programs.read_back)
    yield from _row("releasepage", programs.read_back, "releasepage").never_blocks(rule="P17")
    yield release.caller(
        "P17", "may wait and is called with a spinlock held", _may_wait, "releasepage"
    )


def _may_wait(call: Call) -> Any:
    with SpinLock("mutants_own_lock"):
        return call.go(gfp=GFP_DIRECT_RECLAIM)


# -- reading ---------------------------------------------------------------------------------------


def _reading() -> Iterator[Mutant]:
    """readpage gets a locked page and unlocks it, itself or by its I/O; its caller does not."""
    row = _row("readpage", programs.read_back)
    cell = f"address_space_operations.readpage.{LOCKED}"
    yield row.caller(cell, "is called without the page lock", without("page.lock"))
    for rule in (cell, "P19"):
        fires = (cell, "P19")
        yield row.filesystem(rule, "returns with the page locked", _no_read, fires=fires)
        yield row.filesystem(
            rule, "gives the page to an I/O that never comes", _lost_read, "lost",
            fires=fires,
        )  # fmt: skip
    yield Mutant(
        "P20", "caller", "the caller of readpage() unlocks the page", programs.read_back,
        around={row.name: _unlocks_for_it},
    )  # fmt: skip


def _no_read(call: Call) -> None:
    call.page.uptodate = True


def _lost_read(call: Call) -> None:
    call.page.lock.disown()


def _unlocks_for_it(call: Call) -> None:
    call.go()
    unlock_page(call.page)


# -- dropping --------------------------------------------------------------------------------------


def _dropping() -> Iterator[Mutant]:
    """How a page leaves the cache, and what was attached to it."""
    yield _row("invalidatepage", programs.truncate).filesystem(
        "P44", "keeps dirty buffers", _does_nothing
    )
    yield Mutant(
        "P45", "caller", "without invalidatepage the kernel drops no buffers", programs.truncate,
        patches={"vfsim.mm.buffers.block_invalidatepage": _nothing}, ground=BareGround,
    )  # fmt: skip
    release = _row("releasepage", programs.read_back)
    yield release.filesystem("P46", "says that the page is released, and it is not", _lies)
    yield Mutant(
        "P47", "caller", "without releasepage the kernel frees no buffers", programs.read_back,
        patches={"vfsim.mm.buffers.try_to_free_buffers": _says_so}, ground=BareGround,
    )  # fmt: skip
    yield release.caller("E14", "is called on a page under writeback", _under_writeback)
    yield Mutant(
        "P48", "caller", "freepage() is called before the page leaves the cache",
        programs.truncate, patches={"vfsim.mm.mapping.delete_from_page_cache": _freed_first},
    )  # fmt: skip
    yield Mutant(
        "E15", "caller", "a page is removed while it is dirty", programs.truncate,
        patches={"vfsim.mm.dirty.cancel_dirty_page": _nothing},
    )  # fmt: skip
    yield Row("super_operations", "evict_inode", programs.unlink).filesystem(
        "E15", "removes pages without cleaning them", _removes_dirty_pages
    )


def _does_nothing(call: Call) -> None:
    pass


def _nothing(real: Any, *args: Any) -> None:
    pass


def _says_so(real: Any, page: Page) -> bool:
    return True


def _lies(call: Call) -> bool:
    return True


def _under_writeback(call: Call) -> Any:
    call.page.writeback = True
    try:
        return call.go()
    finally:
        call.page.writeback = False


def _freed_first(real: Any, page: Page) -> None:
    assert page.mapping is not None
    page.mapping.a_ops.freepage(page)
    real(page)


def _removes_dirty_pages(call: Call) -> None:
    pages = find_get_pages(call.inode.i_mapping, 0)
    for page in pages:
        lock_page(page)
        delete_from_page_cache(page)
        unlock_page(page)
    put_pages(pages)
    call.go()


# -- laundering ------------------------------------------------------------------------------------


def _laundering() -> Iterator[Mutant]:
    """A dirty page is written without unlocking it."""
    row = _row("launder_page", programs.launder, ground=LaundryGround)
    yield row.caller("P49", "is called on a clean page", _clean)
    yield row.caller("P49", "is called on a page under writeback", _under_writeback, "writeback")
    yield row.filesystem("P49", "leaves the page dirty", _does_nothing)
    cell = f"address_space_operations.launder_page.{LOCKED}"
    yield row.filesystem(
        "P50", "unlocks the page meanwhile", without("page.lock"), fires=("P50", cell)
    )


def _clean(call: Call) -> Any:
    call.page.dirty = False
    try:
        return call.go()
    finally:
        call.page.dirty = True


# -- a loop device's worker ------------------------------------------------------------------------


def _loop_device() -> Iterator[Mutant]:
    """P18: readpage, write_begin and write_end may be called by a kernel thread."""
    for i, method in enumerate(("readpage", "write_begin", "write_end")):
        yield _row(method, loop_device).filesystem(
            "P18", "relies on the calling process", _asks_who, method if i else ""
        )


def _asks_who(call: Call) -> Any:
    assert current_process().name
    return call.go()


def loop_device(sys: Sys) -> None:
    """A kernel thread reads and writes a file, as the worker of a loop device does."""
    programs.read_back(sys)
    programs.drop_pages(sys, "/f")
    fd = sys.open("/f", os.O_RDWR)
    with programs.opened(fd) as file:
        worker = K.machine.spawn(_worker, file, name="loop0")
        worker.owner = "kernel"
        while worker.alive:
            msleep(1)
    sys.close(fd)


def _worker(file: File) -> None:
    """Sleeps.  The worker's life."""
    vfs_read(file, 100, 0)
    vfs_write(file, b"y" * 100, 0)
