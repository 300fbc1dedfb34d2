"""What the tests of the page cache share: a filesystem of one file, stored in a dictionary.

`StoreFS` keeps what was written, by page index.  Its operations are `StorePages`, good by default;
tests pass bad ones.  `run` mounts it, lets functions run as kernel tasks on the inode of the file,
checks every invariant, unmounts, and returns what the functions returned.
"""

from __future__ import annotations

from collections.abc import Callable
from stat import S_IFDIR, S_IFREG
from types import SimpleNamespace
from typing import Any

from vfsim.filesystems.libfs import SimpleDirInodeOperations, SimpleDirOperations
from vfsim.fs.dcache import d_make_root
from vfsim.fs.inode import (
    Inode,
    ihold,
    inc_nlink,
    inode_init_owner,
    insert_inode_hash,
    iput,
    new_inode,
)
from vfsim.fs.kernel import Kernel
from vfsim.fs.operations import FileSystemType, SuperOperations
from vfsim.fs.super import SuperBlock, kill_anon_super, mount_nodev
from vfsim.mm import (
    PAGE_SIZE,
    AddressSpace,
    AddressSpaceOperations,
    Page,
    WritebackControl,
    bdi_destroy,
    bdi_setup_and_register,
    end_page_writeback,
    grab_cache_page,
    mark_inode_dirty,
    put_page,
    set_page_dirty,
    set_page_dirty_nobuffers,
    set_page_writeback,
    unlock_page,
)
from vfsim.mm.page import begin_page_io, end_page_io
from vfsim.sim.errors import Violation
from vfsim.sim.state import K

Work = Callable[[Inode], Any]
WRITE_NS = 1000


def store_of(inode: Inode) -> dict[int, bytes]:
    """What was written to a file."""
    found: dict[int, bytes] = inode.i_private
    return found


class StorePages(AddressSpaceOperations):
    """Reads and writes pages from and to the inode's dictionary; a write takes a microsecond."""

    def readpage(self, file: Any, page: Page) -> None:
        assert page.mapping is not None
        page.data[:] = store_of(page.mapping.host).get(page.index, bytes(PAGE_SIZE))
        page.uptodate = True
        unlock_page(page)

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        set_page_writeback(page)
        unlock_page(page)
        begin_page_io(page)
        K.machine.timer(WRITE_NS, written, page)
        return 0

    def set_page_dirty(self, page: Page) -> bool:
        return set_page_dirty_nobuffers(page)

    def write_begin(
        self, file: Any, mapping: AddressSpace, pos: int, len: int, flags: int
    ) -> tuple[Page, Any]:
        page = grab_cache_page(mapping, pos // PAGE_SIZE)
        if not page.uptodate:
            page.data[:] = store_of(mapping.host).get(page.index, bytes(PAGE_SIZE))
            page.uptodate = True
        return page, None

    def write_end(
        self,
        file: Any,
        mapping: AddressSpace,
        pos: int,
        len: int,
        copied: int,
        page: Page,
        fsdata: Any,
    ) -> int:
        inode = mapping.host
        grew = pos + copied > inode.i_size
        if grew:
            inode.i_size = pos + copied
        set_page_dirty(page)
        unlock_page(page)
        put_page(page)
        if grew:
            mark_inode_dirty(inode)
        return copied


def written(page: Page) -> None:
    """The write has ended: in softirq context."""
    assert page.mapping is not None
    store_of(page.mapping.host)[page.index] = bytes(page.data)
    end_page_io(page)
    end_page_writeback(page)


class StoreSuper(SuperOperations):
    """Counts how often the inode was written, and sees that nobody else writes it meanwhile."""

    def __init__(self) -> None:
        self.written: list[int] = []

    def write_inode(self, inode: Inode, wbc: WritebackControl) -> None:
        self.written.append(wbc.sync_mode)


class StoreFS(FileSystemType):
    """One file, which tests get as an inode."""

    name = "storefs"

    def __init__(self, pages: AddressSpaceOperations, s_op: SuperOperations) -> None:
        self.pages = pages
        self.s_op = s_op

    def mount(self, flags: int, dev_name: str, data: str) -> Any:
        return mount_nodev(self, flags, data, self.fill_super)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        bdi_setup_and_register(sb, "store")
        sb.s_op = self.s_op
        root = new_inode(sb)
        inode_init_owner(root, None, S_IFDIR | 0o755)
        root.i_op, root.i_fop = SimpleDirInodeOperations(), SimpleDirOperations()
        inc_nlink(root)
        sb.s_root = d_make_root(root)
        self.file = new_inode(sb)
        inode_init_owner(self.file, None, S_IFREG | 0o644)
        self.file.i_private = {}
        self.file.i_mapping.a_ops = self.pages
        insert_inode_hash(self.file)

    def kill_sb(self, sb: SuperBlock) -> None:
        iput(self.file)
        kill_anon_super(sb)
        bdi_destroy(sb.s_bdi)


class World:
    """A kernel with a `StoreFS`."""

    def __init__(
        self,
        pages: AddressSpaceOperations | None = None,
        s_op: SuperOperations | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        if seed is not None:
            options["strategy"] = "pos" if seed % 2 else "random"
        self.kernel = Kernel(seed=seed, **options)
        self.s_op = s_op or StoreSuper()
        self.fs = StoreFS(pages or StorePages(), self.s_op)
        self.kernel.mount(self.fs, "/")
        self.inode = self.fs.file

    def run(self, *work: Work) -> list[Any]:
        """Run functions on the file at once, as kernel tasks; returns what they returned."""
        machine = self.kernel.machine
        tasks = [machine.spawn(fn, self.inode, name=fn.__name__) for fn in work]
        machine.run()
        if not self.violations:
            self.kernel._check()
        return [task.result for task in tasks]

    def close(self) -> None:
        """Unmount and look for leaks."""
        if not self.kernel.machine.stopped:
            self.kernel.close()

    @property
    def violations(self) -> list[Violation]:
        return self.kernel.violations

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kernel.machine.bury()


def run(*work: Work, **options: Any) -> list[Any]:
    """Run functions on the file, to a clean end and a clean unmount."""
    with World(**options) as world:
        results = world.run(*work)
        assert world.violations == []
        world.close()
        assert world.violations == []
        return results


def bugs(*work: Work, **options: Any) -> list[tuple[str, str]]:
    """Run functions that break a rule: (rule, blamed) of each violation until the unmount."""
    with World(**options) as world:
        world.run(*work)
        world.close()
        return [(v.rule, v.blamed) for v in world.violations]


def open_file(inode: Inode, flags: int = 0) -> Any:
    """Enough of an open file for the generic functions."""
    return SimpleNamespace(
        f_inode=inode,
        f_mapping=inode.i_mapping,
        f_flags=flags,
        f_op=inode.i_fop,
        accessed=lambda: None,
        update_time=lambda: None,
        remove_privs=lambda: None,
    )


def keep(inode: Inode) -> None:
    """A reference of the test's own."""
    ihold(inode)


def new_page(inode: Inode, index: int) -> Page:
    """A fresh, locked page of the file, full of its index, uptodate; the caller has a reference."""
    page = grab_cache_page(inode.i_mapping, index)
    page.data[:] = bytes([index + 1]) * PAGE_SIZE
    page.uptodate = True
    return page


def dirty_page(inode: Inode, index: int) -> None:
    """Make a page of the file dirty and let it go."""
    page = new_page(inode, index)
    set_page_dirty(page)
    unlock_page(page)
    put_page(page)
