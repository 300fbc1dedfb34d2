"""Mutants of what every method promises beside the table: references, results, and clean hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.d_move import d_move
from vfsim.fs.d_ref import dput
from vfsim.fs.dcache import d_delete
from vfsim.fs.shutdown import generic_shutdown_super
from vfsim.fs.writers import sb_end_write, sb_start_write
from vfsim.locks.mutex import Mutex
from vfsim.sim.errors import EIO
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.contract.notation import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.changes import Call
    from vfsim.testing.selftest.mutants import Mutant


def mutants() -> Iterator[Mutant]:
    """All of them."""
    d_iput = Row("dentry_operations", "d_iput", programs.rmdir)
    yield d_iput.filesystem(f"{d_iput.name}.takes_ref", "puts no reference", _does_nothing)
    mount = Row("file_system_type", "mount", programs.nothing)
    yield mount.filesystem(
        f"{mount.name}.gives_ref", "returns a root without reference", _unreferenced
    )
    mkdir = Row("inode_operations", "mkdir", programs.mkdir)
    yield mkdir.filesystem(f"{mkdir.name}.exit", "returns with a lock of its own", _keeps_its_lock)
    yield mkdir.filesystem(
        f"{mkdir.name}.exit", "raises with a lock of its own", _fails_locked, "error"
    )
    yield mkdir.filesystem(f"{mkdir.name}.returns", "returns an errno", _returns_an_errno)
    getattr = Row("inode_operations", "getattr", programs.stat)
    yield getattr.filesystem(f"{getattr.name}.returns", "forgets to return", _does_nothing)
    yield mkdir.filesystem("oops", "stumbles", _stumbles, variant="mkdir")
    yield from _errors()
    yield from _as_in_c()
    yield from _left_to_the_caller()
    yield from _has_the_kernel_do_it()


def _errors() -> Iterator[Mutant]:
    """Methods that have no way to fail, and raise."""
    for table, method, program in (
        ("dentry_operations", "d_delete", programs.stat_missing),
        ("dentry_operations", "d_compare", programs.stat_twice),
        ("dentry_operations", "d_prune", programs.rmdir),
        ("dentry_operations", "d_iput", programs.rmdir),
        ("dentry_operations", "d_release", programs.rmdir),
        ("super_operations", "drop_inode", programs.unlink),
        ("super_operations", "evict_inode", programs.unlink),
        ("super_operations", "destroy_inode", programs.unlink),
        ("super_operations", "dirty_inode", programs.chmod),
        ("super_operations", "umount_begin", programs.force_umount),
        ("super_operations", "put_super", programs.nothing),
        ("file_system_type", "kill_sb", programs.nothing),
    ):
        row = Row(table, method, program)
        yield row.filesystem(f"{row.name}.raises", "fails", _fails)


def _as_in_c() -> Iterator[Mutant]:
    """An errno is returned where an object is meant."""
    for table, method, program in (
        ("dentry_operations", "d_revalidate", programs.stat_twice),
        ("inode_operations", "lookup", programs.stat_missing),
        ("inode_operations", "get_link", programs.follow),
        ("inode_operations", "listxattr", programs.list_xattrs),
        ("super_operations", "statfs", programs.statfs),
        ("super_operations", "remount_fs", programs.remount),
        ("super_operations", "show_options", programs.show_mounts),
        ("xattr_handler", "get", programs.get_xattr),
    ):
        row = Row(table, method, program)
        yield row.filesystem(f"{row.name}.returns", "returns an errno", _is_minus_ten)
    lookup = Row("inode_operations", "lookup", programs.stat_missing)
    yield lookup.filesystem(
        f"{lookup.name}.returns", "returns the directory's inode", _the_directory, "inode"
    )
    get_link = Row("inode_operations", "get_link", programs.follow)
    yield get_link.filesystem(f"{get_link.name}.returns", "returns bytes", _in_bytes, "bytes")


def _left_to_the_caller() -> Iterator[Mutant]:
    """What the VFS does after the method, the method does as well."""
    for method, program, change in (
        ("unlink", programs.unlink, _forgets_the_name),
        ("rename", programs.rename_across, _moves_the_name),
    ):
        rule = "dcache.move" if method == "rename" else "dcache.delete"
        row = Row("inode_operations", method, program)
        yield row.filesystem(rule, "does what its caller does", change, method)


def _has_the_kernel_do_it() -> Iterator[Mutant]:
    """A lock that the caller holds is taken or released again, by a function that is called."""
    sync_fs = Row("super_operations", "sync_fs", programs.freeze)
    yield sync_fs.filesystem(
        "lockdep.circular", "waits for the end of the freeze", _starts_to_write
    )
    kill_sb = Row("file_system_type", "kill_sb", programs.nothing)
    yield kill_sb.filesystem("lockdep.unlock-not-held", "shuts down twice", _twice, "kill_sb")


def _fails(call: Call) -> None:
    call.go()
    raise EIO()


def _is_minus_ten(call: Call) -> int:
    return -10


def _the_directory(call: Call) -> Any:
    call.go()
    return call.dir


def _in_bytes(call: Call) -> bytes:
    return bytes(call.go(), "ascii")


def _forgets_the_name(call: Call) -> None:
    call.go()
    d_delete(call.dentry)


def _moves_the_name(call: Call) -> None:
    call.go()
    d_move(call.old_dentry, call.new_dentry)


def _starts_to_write(call: Call) -> None:
    sb_start_write(call.sb)
    sb_end_write(call.sb)


def _twice(call: Call) -> None:
    call.go()
    generic_shutdown_super(call.sb)


def _does_nothing(call: Call) -> None:
    pass


def _unreferenced(call: Call) -> Any:
    root = call.go()
    dput(root)
    return root


def _keeps_its_lock(call: Call) -> None:
    call.go()
    Mutex("mutants_own_mutex").lock()


def _fails_locked(call: Call) -> None:
    Mutex("mutants_own_mutex").lock()
    raise EIO()


def _returns_an_errno(call: Call) -> int:
    call.go()
    return -5


def _stumbles(call: Call) -> None:
    raise KeyError("nothing")
