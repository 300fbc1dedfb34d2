"""Mutants of ``inode_operations``: names in a directory, attributes of anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from vfsim.fs.d_lookup import d_alloc
from vfsim.fs.d_ref import dput
from vfsim.fs.directory import vfs_mkdir
from vfsim.fs.inode import S_DEAD
from vfsim.fs.operations import LOOKUP_RCU, MAY_NOT_BLOCK
from vfsim.sim.errors import ECHILD
from vfsim.sim.scheduler import msleep
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import in_rcu, passing, saying_echild, sleeping
from vfsim.testing.selftest.contract.grounds import AtomicGround, OldGround, ServedGround
from vfsim.testing.selftest.contract.notation import Row
from vfsim.testing.selftest.mutants import Ground, Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.fs.dcache import Dentry
    from vfsim.fs.namei import Nameidata
    from vfsim.testing.selftest.changes import Call, Change
    from vfsim.testing.selftest.mutants import Program

I_MUTEX = "i_mutex(inode)"


def _row(method: str, program: Program, variant: str = "", **other: Any) -> Row:
    return Row("inode_operations", method, program, variant=variant, **other)


# "yes": method, program, lock; the same cell again for each further lock
HELD = (
    ("create", programs.create, "dir.i_rwsem", ""),
    ("create", programs.create_by_mknod, "dir.i_rwsem", "mknod"),
    ("link", programs.link, "dir.i_rwsem", ""),
    ("link", programs.link, "old_dentry.d_inode.i_rwsem", "source"),
    ("mknod", programs.fifo, "dir.i_rwsem", ""),
    ("symlink", programs.symlink, "dir.i_rwsem", ""),
    ("mkdir", programs.mkdir, "dir.i_rwsem", ""),
    ("unlink", programs.unlink, "dir.i_rwsem", ""),
    ("rmdir", programs.rmdir, "dir.i_rwsem", ""),
    ("rename", programs.rename_across, "old_dir.i_rwsem", "old parent"),
    ("rename", programs.rename_across, "new_dir.i_rwsem", "new parent"),
    ("rename", programs.rename, "old_dir.i_rwsem", ""),
    ("rename", programs.rename, "old_dentry.d_inode.i_rwsem", "source"),
    ("rename", programs.exchange, "old_dentry.d_inode.i_rwsem", "exchange"),
    ("rename", programs.whiteout, "old_dir.i_rwsem", "whiteout"),
    ("setattr", programs.chmod, "dentry.d_inode.i_rwsem", ""),
    ("setattr", programs.truncate, "dentry.d_inode.i_rwsem", "size"),
)

# the victim is locked as well (P3)
VICTIMS = (
    ("unlink", programs.unlink, "dentry.d_inode.i_rwsem", ""),
    ("rmdir", programs.rmdir, "dentry.d_inode.i_rwsem", "rmdir"),
    ("rename", programs.rename_over, "new_dentry.d_inode.i_rwsem", "rename"),
    ("rename", programs.exchange_files, "new_dentry.d_inode.i_rwsem", "exchange"),
    ("rename", programs.rename_directory_over, "new_dentry.d_inode.i_rwsem", "rename directory"),
)

# "no"
NOT_HELD = (
    ("readlink", programs.readlink, "dentry.d_inode.i_rwsem"),
    ("get_link", programs.follow_later, "inode.i_rwsem"),
    ("listxattr", programs.list_xattrs, "dentry.d_inode.i_rwsem"),
    ("fiemap", programs.extents, "inode.i_rwsem"),
    ("tmpfile", programs.unnamed, "dir.i_rwsem"),
)

# "no" that means: called both with and without
NOT_PROMISED = (
    ("permission", programs.create, "inode.i_rwsem", Ground),
    ("get_acl", programs.lists, "inode.i_rwsem", Ground),
    ("getattr", programs.stat_in_mkdir, "dentry.d_inode.i_rwsem", ServedGround),
    ("update_time", programs.write_later, "inode.i_rwsem", Ground),
)

ALL_MAY_BLOCK = (
    ("lookup", programs.stat_missing),
    ("create", programs.create),
    ("link", programs.link),
    ("mknod", programs.fifo),
    ("symlink", programs.symlink),
    ("mkdir", programs.mkdir),
    ("unlink", programs.unlink),
    ("rmdir", programs.rmdir),
    ("rename", programs.rename),
    ("readlink", programs.readlink),
    ("get_link", programs.follow_later),
    ("setattr", programs.chmod),
    ("permission", programs.create),
    ("get_acl", programs.lists),
    ("getattr", programs.stat),
    ("listxattr", programs.list_xattrs),
    ("fiemap", programs.extents),
    ("tmpfile", programs.unnamed),
    ("update_time", programs.write_later),
)

# what is done in a directory that must live, by its parameter (E5)
IN_A_DIRECTORY = (
    ("create", programs.create, "dir", ""),
    ("link", programs.link, "dir", "link"),
    ("mknod", programs.fifo, "dir", "mknod"),
    ("symlink", programs.symlink, "dir", "symlink"),
    ("mkdir", programs.mkdir, "dir", "mkdir"),
    ("lookup", programs.stat_missing, "dir", "lookup"),
    ("unlink", programs.unlink, "dir", "unlink"),
    ("rmdir", programs.rmdir, "dir", "rmdir"),
    ("rename", programs.rename_across, "new_dir", "rename"),
    ("rename", programs.rename_across, "old_dir", "rename old parent"),
)


def mutants() -> Iterator[Mutant]:
    """All of them."""
    for method, program, path, variant in HELD:
        yield from _row(method, program, variant).yes(I_MUTEX, path)
    for method, program, path, variant in VICTIMS:
        yield from _row(method, program, variant).yes("", path, "P3")
    for method, program, path in NOT_HELD:
        yield from _row(method, program).no(I_MUTEX, path, rwsem=True)
    for method, program, path, ground in NOT_PROMISED:
        yield from _row(method, program, ground=ground).not_promised(I_MUTEX, path)
    yield from _row("lookup", programs.stat_missing).shared(I_MUTEX, "dir.i_rwsem")
    yield from _row("lookup", programs.create, "create").shared(I_MUTEX, "dir.i_rwsem")
    yield from _row("rename", programs.rename_across).yes(
        "", "old_dir.i_sb.s_vfs_rename_mutex", "P4", rwsem=False
    )
    for i, (method, program) in enumerate(ALL_MAY_BLOCK):
        yield from _row(method, program).may_block(rule="P5", variant=method if i else "")
    yield from _row("truncate", programs.truncate, ground=OldGround).may_block(
        rule="P5", variant="truncate"
    )
    for method, program, dir, variant in IN_A_DIRECTORY:
        yield _row(method, program).caller(
            "E5", "is called on a directory that was removed", _dead(dir), variant
        )
    yield from _atomic_open()
    yield from _rcu_walks()
    yield from _lookups()
    yield from _called_by_filesystems()
    yield from _renames()


def _dead(dir: str) -> Change:
    """The directory is marked dead for the time of the call."""

    def change(call: Call) -> Any:
        inode = getattr(call, dir)
        inode.i_flags |= S_DEAD
        try:
            return call.go()
        finally:
            inode.i_flags &= ~S_DEAD

    return change


def _atomic_open() -> Iterator[Mutant]:
    """Exclusive with O_CREAT, else at least shared."""
    creating = _row("atomic_open", programs.create, ground=AtomicGround)
    yield from creating.yes(I_MUTEX, "dir.i_rwsem")
    looking = _row("atomic_open", programs.open_missing, "plain", ground=AtomicGround)
    yield from looking.shared(I_MUTEX, "dir.i_rwsem")
    yield from creating.may_block(rule="P5", variant="atomic_open")
    yield creating.caller(
        "E5", "is called on a directory that was removed", _dead("dir"), "atomic_open"
    )


def _rcu_walks() -> Iterator[Mutant]:
    """permission and get_link are called by rcu-walks, and must not sleep then."""
    row = _row("permission", programs.stat_twice)
    yield row.filesystem("P2", "sleeps in an rcu-walk", _sleep_if_told)
    create = _row("permission", programs.create)
    yield create.caller("P2", "is told not to block by a walk with references", _told_wrongly)
    yield _row("get_link", programs.follow).filesystem(
        "E1", "sleeps in an rcu-walk", _sleep_without_dentry
    )
    yield create.filesystem(
        "P2", "says ECHILD to a walk with references", saying_echild(_has_references), "ECHILD"
    )
    yield _row("get_link", programs.follow_later).filesystem(
        "E1", "says ECHILD to a walk with references", saying_echild(_has_dentry), "ECHILD"
    )
    yield Mutant(
        "P2", "caller", "a walk that got no references is not begun again", programs.stat,
        variant="ECHILD", patches={
            "vfsim.fs.rcu_walk.unlazy_walk": _gets_no_references,
            "vfsim.fs.namei.walked": _walks_once,
        },
    )  # fmt: skip
    acl = _row("get_acl", programs.lists)
    yield acl.caller("E2", "is called in an RCU read section", in_rcu())
    yield _row("get_link", programs.follow_later).caller(
        "E1", "gets no dentry from a walk with references", passing(dentry=None)
    )


def _sleep_if_told(call: Call) -> Any:
    if call.mask & MAY_NOT_BLOCK:
        msleep(1)
    return call.go()


def _told_wrongly(call: Call) -> Any:
    return call.go(mask=call.mask | MAY_NOT_BLOCK)


def _has_references(call: Call) -> bool:
    return not call.mask & MAY_NOT_BLOCK


def _has_dentry(call: Call) -> bool:
    return call.dentry is not None


def _gets_no_references(real: Any, nd: Nameidata, *child: Any) -> None:
    raise ECHILD()


def _walks_once(
    real: Any, name: str, flags: int, dfd: int, walk: Callable[[str, int, int], Any]
) -> Any:
    return walk(name, flags | LOOKUP_RCU, dfd)


def _sleep_without_dentry(call: Call) -> Any:
    if call.dentry is None:
        msleep(1)
    return call.go()


def _lookups() -> Iterator[Mutant]:
    """E3: two lookups of one name in one directory never run at the same time."""
    for method, program, ground, variant in (
        ("lookup", programs.two_lookups, Ground, ""),
        ("atomic_open", programs.two_opens, AtomicGround, "atomic_open"),
    ):
        yield Mutant(
            "E3", "caller", "the second lookup of a name does not wait for the first",
            program, inside={f"inode_operations.{method}": sleeping()},
            patches={"vfsim.fs.d_lookup.d_alloc_parallel": _nobody_waits},
            variant=variant, ground=ground,
        )  # fmt: skip


def _nobody_waits(real: Any, parent: Dentry, name: str) -> Dentry:
    """Lookups in progress are overlooked."""
    others = dict(parent.d_lookups or {})
    if parent.d_lookups is not None:
        parent.d_lookups.clear()
    made: Dentry = real(parent, name)
    assert parent.d_lookups is not None
    for key, chain in others.items():
        parent.d_lookups[key] = (*parent.d_lookups.get(key, ()), *chain)
    return made


def _called_by_filesystems() -> Iterator[Mutant]:
    """A filesystem that calls a method, or a helper of the kernel that does, is its caller."""
    getattr = _row("getattr", programs.stat)
    cell = f"inode_operations.mkdir.{I_MUTEX}"
    for why, change, variant in (
        ("makes a directory without locking its parent", _unlocked_mkdir, "by a filesystem"),
        ("calls mkdir() without locking the parent", _direct_mkdir, "directly"),
    ):
        mutant = getattr.filesystem(cell, why, change, variant)
        yield evolve(mutant, side="caller", blamed="filesystem")


def _unlocked_mkdir(call: Call) -> Any:
    parent = call.dentry.d_parent
    made = d_alloc(parent, "made")
    vfs_mkdir(parent.d_inode, made, 0o755)
    dput(made)
    return call.go()


def _direct_mkdir(call: Call) -> Any:
    parent = call.dentry.d_parent
    made = d_alloc(parent, "made")
    parent.d_inode.i_op.mkdir(parent.d_inode, made, 0o755)
    dput(made)
    return call.go()


def _renames() -> Iterator[Mutant]:
    """What the functions that lock for a rename can forget."""
    nothing = {
        "vfsim.fs.inode.lock_two_nondirectories": _nothing,
        "vfsim.fs.inode.unlock_two_nondirectories": _nothing,
    }
    source = f"inode_operations.rename.{I_MUTEX}"
    for rule, program in (("P3", programs.rename_over), (source, programs.rename)):
        yield Mutant(
            rule, "caller", "lock_two_nondirectories() locks nothing", program, patches=nothing,
            variant="lock_two_nondirectories",
        )  # fmt: skip
    yield Mutant(
        "P4", "caller", "lock_rename() forgets the superblock's rename lock",
        programs.rename_across, variant="lock_rename",
        patches={
            "vfsim.fs.directory.lock_rename": _locks_parents_only,
            "vfsim.fs.directory.unlock_rename": _unlocks_parents_only,
        },
    )  # fmt: skip


def _nothing(real: Any, *args: Any) -> None:
    pass


def _locks_parents_only(real: Any, p1: Dentry, p2: Dentry) -> Dentry | None:
    trap: Dentry | None = real(p1, p2)
    p1.d_sb.s_vfs_rename_mutex.unlock()
    return trap


def _unlocks_parents_only(real: Any, p1: Dentry, p2: Dentry) -> None:
    p1.d_sb.s_vfs_rename_mutex.lock()
    real(p1, p2)
