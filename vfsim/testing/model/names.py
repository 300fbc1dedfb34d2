"""Calls about names in the model: create, remove, link, rename, and what stands in directories.

Each ``begin_*`` function gets (tree, who, the call's arguments) and returns its first step.  The
order of the tests is Linux's, because it decides the errno.  Removals take two steps, as in Linux:
first the node loses its link, then the name goes; whoever looks without a lock may come between.
"""

from __future__ import annotations

from vfsim.testing.model.tree import DIR, EXEC, READ, SYMLINK, WRITE, Node, Refused, Tree, Who
from vfsim.testing.model.walk import (
    DOT,
    DOTDOT,
    NORM,
    Spot,
    Then,
    check_path,
    look,
    to_directory,
    to_node,
)
from vfsim.testing.scenario import Outcome

NOREPLACE, EXCHANGE = 1, 2
OK = Outcome(0)
_ROOM = frozenset(("ENOSPC", "EDQUOT", "ENOMEM", "EMLINK", "EFBIG", "ENFILE"))


def room(who: Who) -> None:
    """The call would work.  If it was observed to lack room, that is right as well.

    Raises:
        Refused: with the observed errno.
    """
    if who.seen is not None and who.seen.errno:
        for name in _ROOM:
            refused = Refused(name)
            if refused.errno == who.seen.errno:
                raise refused


# Creation.  --------------------------------------------------------------------------------------


def new_place(tree: Tree, spot: Spot, directory: bool = False) -> None:
    """Whether a name can be made there at all (Linux: ``filename_create``)."""
    if spot.type != NORM:
        raise Refused("EEXIST")
    tree.await_lock(spot.dir)
    if tree.nodes[spot.dir].dead:
        raise Refused("ENOENT")
    if look(tree, spot.dir, spot.name):
        raise Refused("EEXIST")
    if spot.slash and not directory:
        raise Refused("ENOENT")


def make(tree: Tree, who: Who, spot: Spot, kind: str, mode: int, target: str = "") -> None:
    """A new node of the caller's."""
    tree.need(who, spot.dir, WRITE | EXEC)
    room(who)
    proc, dir = tree.proc(who), tree.nodes[spot.dir]
    inherits = dir.mode & 0o2000
    tree.set(
        who.id,
        Node(
            kind, mode | (inherits if kind == DIR else 0),
            proc.uid, dir.gid if inherits else proc.gid,
            2 if kind == DIR else 1, target=target, parent=spot.dir,
        ),
    )  # fmt: skip
    tree.enter(spot.dir, spot.name, who.id)
    if kind == DIR:
        tree.links(spot.dir, 1)


def begin_mkdir(tree: Tree, who: Who, path: str, mode: int) -> Then:
    return to_directory(path, _mkdir, mode)


def _mkdir(tree: Tree, who: Who, mode: int, spot: Spot) -> Outcome:
    new_place(tree, spot, directory=True)
    make(tree, who, spot, DIR, mode & 0o1777 & ~tree.proc(who).umask)
    return OK


def begin_symlink(tree: Tree, who: Who, target: str, path: str) -> Then:
    check_path(target)
    return to_directory(path, _symlink, target)


def _symlink(tree: Tree, who: Who, target: str, spot: Spot) -> Outcome:
    new_place(tree, spot)
    make(tree, who, spot, SYMLINK, 0o777, target)
    return OK


def begin_link(tree: Tree, who: Who, old: str, new: str) -> Then:
    return to_node(old, False, _link_to, new)


def _link_to(tree: Tree, who: Who, new: str, ino: int) -> Then:
    return to_directory(new, _link, ino)


def _link(tree: Tree, who: Who, ino: int, spot: Spot) -> Outcome:
    new_place(tree, spot)
    tree.need(who, spot.dir, WRITE | EXEC)
    if tree.nodes[ino].kind == DIR:
        raise Refused("EPERM")
    if not tree.nodes[ino].nlink:
        raise Refused("ENOENT")
    room(who)
    tree.links(ino, 1)
    tree.enter(spot.dir, spot.name, ino)
    return OK


# Removal.  ---------------------------------------------------------------------------------------


def may_delete(tree: Tree, who: Who, dir: int, ino: int, directory: bool) -> None:
    """Whether a name may be taken away, as a directory's if ``directory``."""
    if not ino:
        raise Refused("ENOENT")
    tree.need(who, dir, WRITE | EXEC)
    sticky = tree.nodes[dir].mode & 0o1000
    if sticky and not tree.owns(who, ino) and not tree.owns(who, dir):
        raise Refused("EPERM")
    if directory and tree.nodes[ino].kind != DIR:
        raise Refused("ENOTDIR")
    if not directory and tree.nodes[ino].kind == DIR:
        raise Refused("EISDIR")


def begin_unlink(tree: Tree, who: Who, path: str) -> Then:
    return to_directory(path, _unlink)


def _unlink(tree: Tree, who: Who, spot: Spot) -> Then:
    if spot.type != NORM:
        raise Refused("EISDIR")
    tree.lock(spot.dir)
    ino = look(tree, spot.dir, spot.name)
    if ino and spot.slash:
        raise Refused("EISDIR" if tree.nodes[ino].kind == DIR else "ENOTDIR")
    may_delete(tree, who, spot.dir, ino, False)
    tree.links(ino, -1)
    return Then(_gone, (spot.dir, spot.name))


def begin_rmdir(tree: Tree, who: Who, path: str) -> Then:
    return to_directory(path, _rmdir)


def _rmdir(tree: Tree, who: Who, spot: Spot) -> Then:
    if spot.type != NORM:
        raise Refused({DOTDOT: "ENOTEMPTY", DOT: "EINVAL"}.get(spot.type, "EBUSY"))
    ino = look(tree, spot.dir, spot.name)
    may_delete(tree, who, spot.dir, ino, True)
    tree.await_lock(ino)
    tree.lock(spot.dir)
    if tree.nodes[ino].entries:
        raise Refused("ENOTEMPTY")
    tree.edit(ino, nlink=0, dead=True)
    tree.links(spot.dir, -1)
    return Then(_gone, (spot.dir, spot.name))


def _gone(tree: Tree, who: Who, dir: int, name: str) -> Outcome:
    tree.leave(dir, name)
    tree.unlock(dir)
    return OK


# Rename.  ----------------------------------------------------------------------------------------


def begin_rename(tree: Tree, who: Who, old: str, new: str) -> Then:
    return begin_renameat2(tree, who, old, new, 0)


def begin_renameat2(tree: Tree, who: Who, old: str, new: str, flags: int) -> Then:
    if flags & ~3 or flags == NOREPLACE | EXCHANGE:
        raise Refused("EINVAL")
    return to_directory(old, _rename_to, new, flags)


def _rename_to(tree: Tree, who: Who, new: str, flags: int, old: Spot) -> Then:
    return to_directory(new, _rename, old, flags)


def _rename(tree: Tree, who: Who, old: Spot, flags: int, new: Spot) -> Then | Outcome:
    if old.type != NORM:
        raise Refused("EBUSY")
    if new.type != NORM:
        raise Refused("EEXIST" if flags & NOREPLACE else "EBUSY")
    source, target = _the_two(tree, old, new, flags)
    if source == target:
        return OK
    exchange = bool(flags & EXCHANGE)
    is_dir = tree.nodes[source].kind == DIR
    may_delete(tree, who, old.dir, source, is_dir)
    if target:
        target_dir = tree.nodes[target].kind == DIR
        may_delete(tree, who, new.dir, target, target_dir if exchange else is_dir)
    else:
        if tree.nodes[new.dir].dead:
            raise Refused("ENOENT")
        tree.need(who, new.dir, WRITE | EXEC)
    if new.dir != old.dir:
        for moved in (source, target if exchange else 0):
            if moved and tree.nodes[moved].kind == DIR:
                tree.need(who, moved, WRITE)
    if exchange and not tree.traits.exchange:
        raise Refused("EINVAL")
    if target and not exchange and tree.nodes[target].entries:
        raise Refused("ENOTEMPTY")
    room(who)
    locks = tuple(sorted({old.dir, new.dir}))
    tree.lock(*locks)
    if target and not exchange:
        if is_dir:
            tree.edit(target, nlink=0, dead=True)
            tree.links(new.dir, -1)
        else:
            tree.links(target, -1)
    return Then(_moved, (old, new, source, target if exchange else 0, locks))


def _the_two(tree: Tree, old: Spot, new: Spot, flags: int) -> tuple[int, int]:
    """The nodes of both names, and what can be said by looking at them."""
    tree.await_lock(old.dir, new.dir)
    if tree.nodes[old.dir].dead:
        raise Refused("ENOENT")
    source = look(tree, old.dir, old.name)
    if not source:
        raise Refused("ENOENT")
    if tree.nodes[new.dir].dead:
        raise Refused("ENOENT")
    target = look(tree, new.dir, new.name)
    if flags & NOREPLACE and target:
        raise Refused("EEXIST")
    if flags & EXCHANGE and not target:
        raise Refused("ENOENT")
    if flags & EXCHANGE and new.slash and tree.nodes[target].kind != DIR:
        raise Refused("ENOTDIR")
    if tree.nodes[source].kind != DIR and (old.slash or (new.slash and not flags & EXCHANGE)):
        raise Refused("ENOTDIR")
    if tree.nodes[source].kind == DIR and tree.below(new.dir, source):
        raise Refused("EINVAL")
    if target and tree.nodes[target].kind == DIR and tree.below(old.dir, target):
        raise Refused("EINVAL" if flags & EXCHANGE else "ENOTEMPTY")
    return source, target


def _moved(
    tree: Tree, who: Who, old: Spot, new: Spot, source: int, back: int, locks: tuple[int, ...]
) -> Outcome:
    """Both names change at once; ``back`` is what goes the other way."""
    tree.leave(old.dir, old.name)
    tree.enter(new.dir, new.name, source)
    if back:
        tree.enter(old.dir, old.name, back)
    if old.dir != new.dir:
        by = (tree.nodes[source].kind == DIR) - bool(back and tree.nodes[back].kind == DIR)
        tree.links(new.dir, by)
        tree.links(old.dir, -by)
    tree.unlock(*locks)
    return OK


# Looking at directories.  ------------------------------------------------------------------------


def begin_listdir(tree: Tree, who: Who, path: str) -> Then:
    return to_node(path, True, _opendir)


def _opendir(tree: Tree, who: Who, ino: int) -> Then:
    if tree.nodes[ino].kind != DIR:
        raise Refused("ENOTDIR")
    tree.need(who, ino, READ)
    return Then(_getdents, (ino,))


def _getdents(tree: Tree, who: Who, ino: int) -> Outcome:
    tree.await_lock(ino)
    if tree.nodes[ino].dead:
        raise Refused("ENOENT")
    return Outcome(0, tuple(name for name, _ in tree.nodes[ino].entries))


def begin_chdir(tree: Tree, who: Who, path: str) -> Then:
    return to_node(path, True, _chdir)


def _chdir(tree: Tree, who: Who, ino: int) -> Outcome:
    if tree.nodes[ino].kind != DIR:
        raise Refused("ENOTDIR")
    tree.need(who, ino, EXEC)
    tree.edit_proc(who, cwd=ino)
    return OK


def begin_readlink(tree: Tree, who: Who, path: str) -> Then:
    return to_node(path, False, _readlink)


def _readlink(tree: Tree, who: Who, ino: int) -> Outcome:
    if tree.nodes[ino].kind != SYMLINK:
        raise Refused("EINVAL")
    return Outcome(0, tree.nodes[ino].target)
