"""Calls about files in the model: open, data, attributes, and who the process is.

Where Linux promises less than one moment, the call takes several steps: a *read* looks at the size
and copies, page by page, without a lock; a *write* is done page by page under the file's lock, so
other writers see all or nothing of it and readers may see part; O_TRUNC truncates after opening.
"""

from __future__ import annotations

import os

from vfsim.testing.model.names import OK, make, room
from vfsim.testing.model.tree import (
    DIR,
    FILE,
    READ,
    SYMLINK,
    WRITE,
    Node,
    OpenFile,
    Refused,
    Tree,
    Who,
)
from vfsim.testing.model.walk import (
    DOTDOT,
    MAX_LINKS,
    NORM,
    Spot,
    Then,
    again,
    look,
    to_directory,
    to_node,
)
from vfsim.testing.scenario import Outcome

PAGE = 4096
ANY = Outcome(0, "whatever")
"""The answer of a call of which the model knows nothing: any will do."""

_ACCESS = {os.O_RDONLY: READ, os.O_WRONLY: WRITE, os.O_RDWR: READ | WRITE}


# Opening.  ---------------------------------------------------------------------------------------


def begin_open(tree: Tree, who: Who, path: str, flags: int, mode: int) -> Then:
    return to_directory(path, _open_last, flags, mode, 0)


def _open_last(
    tree: Tree, who: Who, flags: int, mode: int, links: int, spot: Spot
) -> Then | Outcome:
    creating = flags & os.O_CREAT
    follow = not flags & os.O_NOFOLLOW or spot.slash
    if spot.type != NORM:
        at = tree.nodes[spot.dir].parent if spot.type == DOTDOT else spot.dir
        return Then(_opened, (flags, False, at))
    if creating and spot.slash:
        raise Refused("EISDIR")
    if creating:
        tree.await_lock(spot.dir)
    if tree.nodes[spot.dir].dead:
        raise Refused("ENOENT")
    ino = look(tree, spot.dir, spot.name)
    if not ino:
        if not creating:
            raise Refused("ENOENT")
        make(tree, who, spot, FILE, mode & 0o7777 & ~tree.proc(who).umask)
        return _install(tree, who, flags, who.id)
    if creating and flags & os.O_EXCL:
        raise Refused("EEXIST")
    if tree.nodes[ino].kind == SYMLINK and follow:
        if links >= MAX_LINKS:
            raise Refused("ELOOP")
        return again(spot.dir, tree.nodes[ino].target, _open_last, flags, mode, links + 1)
    return Then(_opened, (flags, spot.slash, ino))


def _opened(tree: Tree, who: Who, flags: int, slash: bool, ino: int) -> Then | Outcome:
    node = tree.nodes[ino]
    if flags & os.O_CREAT and node.kind == DIR:
        raise Refused("EISDIR")
    if (flags & os.O_DIRECTORY or slash) and node.kind != DIR:
        raise Refused("ENOTDIR")
    want = _ACCESS.get(flags & os.O_ACCMODE, READ | WRITE)
    if flags & os.O_TRUNC:
        want |= WRITE
    if node.kind == SYMLINK:
        raise Refused("ELOOP")
    if node.kind == DIR and want & WRITE:
        raise Refused("EISDIR")
    tree.need(who, ino, want)
    if flags & os.O_TRUNC and node.kind == FILE:
        return Then(_open_truncated, (flags, ino))
    return _install(tree, who, flags, ino)


def _open_truncated(tree: Tree, who: Who, flags: int, ino: int) -> Outcome:
    _resize(tree, who, ino, 0)
    return _install(tree, who, flags, ino)


def _install(tree: Tree, who: Who, flags: int, ino: int) -> Outcome:
    tree.files[who.id] = OpenFile(ino, flags)
    return Outcome(0, _descriptor(tree, who, who.id))


def _descriptor(tree: Tree, who: Who, file: int) -> int:
    """The lowest free descriptor, now standing for ``file``."""
    fds = tree.proc(who).fds
    fd = fds.index(0) if 0 in fds else len(fds)
    tree.edit_proc(who, fds=(*fds[:fd], file, *fds[fd + 1 :]))
    return fd


def _file(tree: Tree, who: Who, fd: int) -> tuple[int, OpenFile]:
    """The open file behind a descriptor, by number and by value.  Raises: Refused (EBADF)."""
    fds = tree.proc(who).fds
    if not 0 <= fd < len(fds) or not fds[fd]:
        raise Refused("EBADF")
    return fds[fd], tree.files[fds[fd]]


def begin_close(tree: Tree, who: Who, fd: int) -> Outcome:
    number, _ = _file(tree, who, fd)
    fds = list(tree.proc(who).fds)
    fds[fd] = 0
    while fds and not fds[-1]:
        fds.pop()
    tree.edit_proc(who, fds=tuple(fds))
    if number not in fds:
        del tree.files[number]
    return OK


def begin_dup(tree: Tree, who: Who, fd: int) -> Outcome:
    return Outcome(0, _descriptor(tree, who, _file(tree, who, fd)[0]))


# Data.  ------------------------------------------------------------------------------------------


def begin_read(tree: Tree, who: Who, fd: int, count: int) -> Then | Outcome:
    return _read(tree, who, fd, count, -1)


def begin_pread(tree: Tree, who: Who, fd: int, count: int, offset: int) -> Then | Outcome:
    if offset < 0:
        raise Refused("EINVAL")
    return _read(tree, who, fd, count, offset)


def _read(tree: Tree, who: Who, fd: int, count: int, offset: int) -> Then | Outcome:
    number, file = _file(tree, who, fd)
    if file.flags & os.O_ACCMODE == os.O_WRONLY:
        raise Refused("EBADF")
    if tree.nodes[file.ino].kind == DIR:
        raise Refused("EISDIR")
    moving = number if offset < 0 else 0
    return _measure(tree, who, file.ino, file.pos if offset < 0 else offset, count, b"", moving)


def _measure(
    tree: Tree, who: Who, ino: int, pos: int, count: int, got: bytes, moving: int
) -> Then | Outcome:
    """How much of the page there is to copy."""
    n = min(count, PAGE - pos % PAGE, len(tree.nodes[ino].data) - pos)
    if n > 0:
        return Then(_copy, (ino, pos, count, got, moving, n))
    if moving:
        tree.files[moving] = tree.files[moving]._replace(pos=pos)
        tree.changed = tree.changed or bool(got)
    return Outcome(0, got)


def _copy(
    tree: Tree, who: Who, ino: int, pos: int, count: int, got: bytes, moving: int, n: int
) -> Then | Outcome:
    """Copy; what was cut off since reads as zeros."""
    got += tree.nodes[ino].data[pos : pos + n].ljust(n, b"\0")
    if count == n:
        return _measure(tree, who, ino, pos + n, 0, got, moving)
    return Then(_measure, (ino, pos + n, count - n, got, moving))


def begin_write(tree: Tree, who: Who, fd: int, data: bytes) -> Then | Outcome:
    return _write(tree, who, fd, data, -1)


def begin_pwrite(tree: Tree, who: Who, fd: int, data: bytes, offset: int) -> Then | Outcome:
    if offset < 0:
        raise Refused("EINVAL")
    return _write(tree, who, fd, data, offset)


def _write(tree: Tree, who: Who, fd: int, data: bytes, offset: int) -> Then | Outcome:
    number, file = _file(tree, who, fd)
    if file.flags & os.O_ACCMODE == os.O_RDONLY:
        raise Refused("EBADF")
    if not data:
        return Outcome(0, 0)
    seen = who.seen.value if who.seen is not None and not who.seen.errno else None
    if isinstance(seen, int) and 0 < seen < len(data):
        data = data[:seen]  # a write may be short
    room(who)
    ino = file.ino
    tree.lock(ino)
    _lose_suid(tree, who, ino)
    pos = file.pos if offset < 0 else offset
    if file.flags & os.O_APPEND:
        pos = len(tree.nodes[ino].data)
    moving = number if offset < 0 else 0
    return _put(tree, who, ino, pos, data, 0, moving)


def _put(
    tree: Tree, who: Who, ino: int, pos: int, data: bytes, done: int, moving: int
) -> Then | Outcome:
    """One page: first what is within the file, then what makes it longer."""
    at = pos + done
    piece = data[done : done + PAGE - at % PAGE]
    inside = max(0, min(len(tree.nodes[ino].data) - at, len(piece)))
    if 0 < inside < len(piece):
        _splice(tree, ino, at, piece[:inside])
        return Then(_extend, (ino, pos, data, done, len(piece), moving))
    return _extend(tree, who, ino, pos, data, done, len(piece), moving)


def _extend(
    tree: Tree, who: Who, ino: int, pos: int, data: bytes, done: int, n: int, moving: int
) -> Then | Outcome:
    _splice(tree, ino, pos + done, data[done : done + n])
    done += n
    if done < len(data):
        return Then(_put, (ino, pos, data, done, moving))
    tree.unlock(ino)
    if moving and tree.files[moving].flags & os.O_APPEND:
        return Then(_behind, (ino, len(data), moving))
    if moving:
        tree.files[moving] = tree.files[moving]._replace(pos=pos + len(data))
    return Outcome(0, len(data))


def _behind(tree: Tree, who: Who, ino: int, written: int, moving: int) -> Outcome:
    """After appending, the position is the end of the file, looked at without its lock."""
    tree.files[moving] = tree.files[moving]._replace(pos=len(tree.nodes[ino].data))
    tree.changed = True
    return Outcome(0, written)


def _splice(tree: Tree, ino: int, at: int, piece: bytes) -> None:
    old = tree.nodes[ino].data
    tree.edit(ino, data=old[:at].ljust(at, b"\0") + piece + old[at + len(piece) :])


def _lose_suid(tree: Tree, who: Who, ino: int) -> None:
    """Changing a file's data takes its set-user-ID bit, unless root does it."""
    if tree.proc(who).uid and tree.nodes[ino].kind == FILE:
        _kill_suid(tree, ino)


def _kill_suid(tree: Tree, ino: int) -> None:
    mode = tree.nodes[ino].mode
    new = mode & ~0o4000
    if mode & 0o2010 == 0o2010:
        new &= ~0o2000
    if new != mode:
        tree.edit(ino, mode=new)


def begin_lseek(tree: Tree, who: Who, fd: int, offset: int, whence: int) -> Outcome:
    number, file = _file(tree, who, fd)
    node = tree.nodes[file.ino]
    if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
        raise Refused("EINVAL")
    if node.kind == DIR:
        return ANY
    pos = offset + (0, file.pos, len(node.data))[whence]
    if pos < 0:
        raise Refused("EINVAL")
    if pos != file.pos:
        tree.files[number] = file._replace(pos=pos)
        tree.changed = True
    return Outcome(0, pos)


def begin_truncate(tree: Tree, who: Who, path: str, length: int) -> Then:
    if length < 0:
        raise Refused("EINVAL")
    return to_node(path, True, _truncate, length)


def _truncate(tree: Tree, who: Who, length: int, ino: int) -> Then:
    if tree.nodes[ino].kind == DIR:
        raise Refused("EISDIR")
    tree.need(who, ino, WRITE)
    return Then(_set_size, (ino, length))


def begin_ftruncate(tree: Tree, who: Who, fd: int, length: int) -> Then:
    if length < 0:
        raise Refused("EINVAL")
    _, file = _file(tree, who, fd)
    if tree.nodes[file.ino].kind != FILE or file.flags & os.O_ACCMODE == os.O_RDONLY:
        raise Refused("EINVAL")
    return Then(_set_size, (file.ino, length))


def _set_size(tree: Tree, who: Who, ino: int, length: int) -> Outcome:
    room(who)
    _resize(tree, who, ino, length)
    return OK


def _resize(tree: Tree, who: Who, ino: int, length: int) -> None:
    tree.await_lock(ino)
    _lose_suid(tree, who, ino)
    old = tree.nodes[ino].data
    tree.edit(ino, data=old[:length].ljust(length, b"\0"))


def begin_fsync(tree: Tree, who: Who, fd: int) -> Outcome:
    _, file = _file(tree, who, fd)
    traits = tree.traits
    if not (traits.fsync_dir if tree.nodes[file.ino].kind == DIR else traits.fsync):
        raise Refused("EINVAL")
    return OK


def begin_sync(tree: Tree, who: Who) -> Outcome:
    return OK


# Attributes.  ------------------------------------------------------------------------------------


def fill(node: Node) -> tuple[str, int, int, int, int, int]:
    """What stat tells: kind, mode, links, owner, group, size (0 for directories)."""
    size = len(node.data) if node.kind == FILE else len(node.target.encode())
    return node.kind, node.mode, node.nlink, node.uid, node.gid, size


def begin_stat(tree: Tree, who: Who, path: str) -> Then:
    return to_node(path, True, _stat)


def begin_lstat(tree: Tree, who: Who, path: str) -> Then:
    return to_node(path, False, _stat)


def _stat(tree: Tree, who: Who, ino: int) -> Outcome:
    return Outcome(0, fill(tree.nodes[ino]))


def begin_fstat(tree: Tree, who: Who, fd: int) -> Outcome:
    return _stat(tree, who, _file(tree, who, fd)[1].ino)


def begin_chmod(tree: Tree, who: Who, path: str, mode: int) -> Then:
    return to_node(path, True, _chmod, mode)


def begin_fchmod(tree: Tree, who: Who, fd: int, mode: int) -> Outcome:
    return _chmod(tree, who, mode, _file(tree, who, fd)[1].ino)


def _chmod(tree: Tree, who: Who, mode: int, ino: int) -> Outcome:
    tree.await_lock(ino)
    if not tree.owns(who, ino):
        raise Refused("EPERM")
    proc = tree.proc(who)
    if proc.uid and proc.gid != tree.nodes[ino].gid:
        mode &= ~0o2000
    tree.edit(ino, mode=mode & 0o7777)
    return OK


def begin_chown(tree: Tree, who: Who, path: str, uid: int, gid: int) -> Then:
    return to_node(path, True, _chown, uid, gid)


def begin_lchown(tree: Tree, who: Who, path: str, uid: int, gid: int) -> Then:
    return to_node(path, False, _chown, uid, gid)


def _chown(tree: Tree, who: Who, uid: int, gid: int, ino: int) -> Outcome:
    tree.await_lock(ino)
    proc, node = tree.proc(who), tree.nodes[ino]
    if proc.uid:
        if uid != -1 and (proc.uid != node.uid or uid != node.uid):
            raise Refused("EPERM")
        if gid != -1 and (proc.uid != node.uid or gid not in (proc.gid, node.gid)):
            raise Refused("EPERM")
        if node.kind == FILE and node.mode & 0o4000 and not tree.owns(who, ino):
            raise Refused("EPERM")
    if node.kind == FILE:
        _kill_suid(tree, ino)
    tree.edit(ino, uid=node.uid if uid == -1 else uid, gid=node.gid if gid == -1 else gid)
    return OK


# Who the process is.  ----------------------------------------------------------------------------


def begin_umask(tree: Tree, who: Who, mask: int) -> Outcome:
    old = tree.proc(who).umask
    tree.edit_proc(who, umask=mask & 0o777)
    return Outcome(0, old)


def begin_setuid(tree: Tree, who: Who, uid: int) -> Outcome:
    """The effective user; the real one stays root, who may come back."""
    if tree.proc(who).uid and uid not in (tree.proc(who).uid, 0):
        raise Refused("EPERM")
    tree.edit_proc(who, uid=uid)
    return OK


def begin_setgid(tree: Tree, who: Who, gid: int) -> Outcome:
    if tree.proc(who).uid and gid not in (tree.proc(who).gid, 0):
        raise Refused("EPERM")
    tree.edit_proc(who, gid=gid)
    return OK
