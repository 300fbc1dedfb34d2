"""netfs: names on a server, which others change behind the cache.

::

    Server   a tree of nodes.  Its own methods are what *other* clients do, and take no time here
       │     ask(): one message there and back; sleeps LATENCY
    NetFS    this client: the dcache, which believes each name for LEASE and then asks again

How a name is believed (`NetNames.d_revalidate`)::

    within its lease                  yes, also in rcu-walk: nothing has to be asked
    later, in rcu-walk                ECHILD: asking sleeps, so the walk takes references
    later, or LOOKUP_REVAL            the server is asked: the same node?  a new lease : False,
                                      and the walk forgets the name and looks it up

What is used without a name (an open file, the working directory, the end of a walk that jumped) may
be gone on the server: that is ESTALE, and the walk tries once more, asking about every name.  A
directory that somebody moved is found in its new place by its number, and its dentry moves there
(``d_splice_alias``).

No lock of the client guards the server: each message is one step there.  A small relative of
``fs/nfs/dir.c`` of v4.10; files have no contents.
"""

from __future__ import annotations

from stat import S_IFDIR, S_IFREG, S_ISDIR, S_ISGID
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.filesystems.libfs import MemoryFileOperations, MemoryFileSystem, SimpleSuperOperations
from vfsim.fs.attr import ATTR_SIZE, generic_fillattr, setattr_copy, setattr_prepare
from vfsim.fs.dcache import (
    Dentry,
    d_drop,
    d_instantiate,
    d_make_root,
    d_splice_alias,
    dget_parent,
    dput,
)
from vfsim.fs.iget import iget_locked, unlock_new_inode
from vfsim.fs.inode import I_NEW, Inode, current_time, drop_nlink
from vfsim.fs.lookup import LOOKUP_REVAL
from vfsim.fs.operations import LOOKUP_RCU, DentryOperations, InodeOperations
from vfsim.fs.process import current_process
from vfsim.fs.refusal import Refusal
from vfsim.sim.errors import ECHILD, EEXIST, EFBIG, EINVAL, ENOENT, ENOTEMPTY, ESTALE
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K

if TYPE_CHECKING:
    from vfsim.fs.attr import IAttr, KStat
    from vfsim.fs.file import File
    from vfsim.fs.mount import Mount
    from vfsim.fs.read_write import DirContext
    from vfsim.fs.super import SuperBlock

LATENCY = 1
"""How long one message takes there and back, in ms."""
LEASE = 50_000_000
"""How long a name is believed, in ns."""


# -- the server ------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Node:
    """What the server keeps of a file or directory.

    Attributes:
        ino, mode, uid, gid: as `stat` tells them.
        names: of a directory.
        gone: it was removed.
    """

    ino: int
    mode: int
    uid: int = 0
    gid: int = 0
    names: dict[str, Node] = attrs.field(factory=dict)
    gone: bool = False


class Server:
    """The tree.  Every method is one step, and never sleeps.

    Raises ESTALE for a directory that was removed, ENOENT, EEXIST, ENOTEMPTY as usual.

    Attributes:
        root: its root.  asked: how many messages clients have sent.
    """

    def __init__(self) -> None:
        self.root = Node(1, S_IFDIR | 0o755)
        self.asked = 0
        self._last = 1

    def names(self, dir: Node) -> dict[str, Node]:
        """All names of a directory."""
        if dir.gone:
            raise ESTALE()
        return dir.names

    def find(self, dir: Node, name: str) -> Node | None:
        """What a name leads to."""
        return self.names(dir).get(name)

    def make(self, dir: Node, name: str, mode: int, uid: int = 0, gid: int = 0) -> Node:
        """A new file or directory of somebody's; its group may be the directory's business."""
        names = self.names(dir)
        if name in names:
            raise EEXIST()
        if dir.mode & S_ISGID:
            gid = dir.gid
            if S_ISDIR(mode):
                mode |= S_ISGID
        self._last += 1
        made = names[name] = Node(self._last, mode, uid, gid)
        return made

    def remove(self, dir: Node, name: str) -> None:
        """A name, and what it led to."""
        node = self.find(dir, name)
        if node is None:
            raise ENOENT()
        if node.names:
            raise ENOTEMPTY()
        node.gone = True
        del dir.names[name]

    def rename(self, old: Node, name: str, new: Node, new_name: str) -> None:
        """A name moves; what had the new one goes."""
        node = self.find(old, name)
        if node is None:
            raise ENOENT()
        if self.find(new, new_name) is not None:
            self.remove(new, new_name)
        del old.names[name]
        new.names[new_name] = node


def ask(sb: SuperBlock) -> Server:
    """Sleeps.  A message to the server, and its answer: what is asked of it at once is one step."""
    server: Server = sb.s_fs_info
    msleep(LATENCY)
    server.asked += 1
    return server


def net_inode(sb: SuperBlock, node: Node) -> Inode:
    """Sleeps.  The inode of a node, with a reference: the same one for as long as it is cached."""
    inode = iget_locked(sb, node.ino)
    if inode.i_state & I_NEW:
        inode.i_mode, inode.i_uid, inode.i_gid = node.mode, node.uid, node.gid
        inode.i_private = node
        inode.i_atime = inode.i_mtime = inode.i_ctime = current_time(inode)
        if S_ISDIR(node.mode):
            inode.i_op, inode.i_fop = NetDirectory(), NetOpenDirectory()
        else:
            inode.i_op, inode.i_fop = NetFile(), NetOpenFile()
        unlock_new_inode(inode)
    return inode


def believe(dentry: Dentry) -> None:
    """Never sleeps.  The server has just said so."""
    dentry.d_time = K.machine.now + LEASE


# -- the tables ------------------------------------------------------------------------------------


class NetNames(DentryOperations):
    """Names that are believed for a while."""

    def d_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  Within its lease a name stands; later the server is asked."""
        inode = dentry.d_inode
        if not flags & LOOKUP_REVAL and K.machine.now < dentry.d_time:
            return True
        if flags & LOOKUP_RCU:
            raise ECHILD()
        parent = dget_parent(dentry)
        assert parent.d_inode is not None
        try:
            found = ask(dentry.d_sb).find(parent.d_inode.i_private, dentry.d_name)
        finally:
            dput(parent)
        if found is not (None if inode is None else inode.i_private):
            return False
        believe(dentry)
        return True

    def d_weak_revalidate(self, dentry: Dentry, flags: int) -> bool:
        """Sleeps.  Whether what a walk jumped to still exists, under whatever name."""
        assert dentry.d_inode is not None
        ask(dentry.d_sb)
        return not dentry.d_inode.i_private.gone


class NetFile(InodeOperations):
    """Anything on the server."""

    def getattr(self, mnt: Mount, dentry: Dentry) -> KStat:
        """Sleeps.  The server is asked whether it still exists."""
        assert dentry.d_inode is not None
        ask(dentry.d_sb)
        if dentry.d_inode.i_private.gone:
            raise ESTALE()
        return generic_fillattr(dentry.d_inode)

    def setattr(self, dentry: Dentry, attr: IAttr) -> None:
        """Sleeps.  There and here.  A file without contents has no size."""
        inode = dentry.d_inode
        assert inode is not None
        setattr_prepare(dentry, attr)
        if attr.ia_valid & ATTR_SIZE and attr.ia_size:
            raise EFBIG()
        ask(dentry.d_sb)
        node = inode.i_private
        if node.gone:
            raise ESTALE()
        setattr_copy(inode, attr)
        node.mode, node.uid, node.gid = inode.i_mode, inode.i_uid, inode.i_gid


class NetDirectory(NetFile):
    """A directory."""

    def lookup(self, dir: Inode, dentry: Dentry, flags: int) -> Dentry | None:
        """Sleeps.  A directory that is cached in another place moves here."""
        node = ask(dir.i_sb).find(dir.i_private, dentry.d_name)
        inode = None if node is None else net_inode(dir.i_sb, node)
        found = d_splice_alias(inode, dentry)
        believe(found or dentry)
        return found

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        """Sleeps.  An empty file."""
        self._make(dir, dentry, mode | S_IFREG)

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        """Sleeps.  An empty directory."""
        self._make(dir, dentry, mode | S_IFDIR)

    def _make(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        cred = current_process().cred
        try:
            server = ask(dir.i_sb)
            node = server.make(dir.i_private, dentry.d_name, mode, cred.uid, cred.gid)
        except OSError:
            d_drop(dentry)  # others made it: what was believed is wrong
            raise
        d_instantiate(dentry, net_inode(dir.i_sb, node))
        believe(dentry)

    def unlink(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  The name and the file."""
        try:
            ask(dir.i_sb).remove(dir.i_private, dentry.d_name)
        except OSError:
            d_drop(dentry)
            raise
        assert dentry.d_inode is not None
        drop_nlink(dentry.d_inode)

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        """Sleeps.  As a file."""
        self.unlink(dir, dentry)

    def rename(
        self, old_dir: Inode, old_dentry: Dentry, new_dir: Inode, new_dentry: Dentry, flags: int
    ) -> None:
        """Sleeps.  On the server; the kernel moves the dentry afterwards."""
        if flags:
            raise EINVAL()
        try:
            ask(old_dir.i_sb).rename(
                old_dir.i_private, old_dentry.d_name, new_dir.i_private, new_dentry.d_name
            )
        except OSError:
            d_drop(old_dentry)
            d_drop(new_dentry)
            raise
        if new_dentry.d_inode is not None:
            drop_nlink(new_dentry.d_inode)


class NetOpenFile(MemoryFileOperations):
    """An open file, which has no contents."""


class NetOpenDirectory(MemoryFileOperations):
    """An open directory."""

    def iterate(self, file: File, ctx: DirContext) -> None:
        """Sleeps.  The names as they were when the listing began."""
        if not ctx.emit_dots(file):
            return
        if ctx.pos == 2 or file.private_data is None:
            node = file.f_inode.i_private
            names = ask(file.f_inode.i_sb).names(node)
            file.private_data = [(n, it.ino, it.mode >> 12) for n, it in names.items()]
        for name, ino, kind in file.private_data[ctx.pos - 2 :]:
            if not ctx.emit(name, ino, kind):
                return
            ctx.pos += 1


class NetFS(MemoryFileSystem):
    """The type.  server: where its files are; every mount sees the same ones."""

    name = "netfs"
    names: DentryOperations = NetNames()
    refuses = (
        Refusal("fstat fchmod fchown", ESTALE, "what is open may be gone on the server"),
        Refusal("open mkdir", ESTALE, "so may the working directory"),
    )

    def __init__(self) -> None:
        self.server = Server()

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  The superblock and its root."""
        sb.s_fs_info = self.server
        sb.s_op, sb.s_d_op = SimpleSuperOperations(), self.names
        sb.s_root = d_make_root(net_inode(sb, self.server.root))
