"""A kind of filesystem, as the document prints it::

    file_system_type

              may block
    mount:    yes
    kill_sb:  yes

Called by mount(2) and by whoever drops the last active reference on a superblock (umount(2), a
mount that fails).  ``s_umount`` of the superblock passes through here: ``mount`` returns with it
held, ``kill_sb`` is called with it held and gives it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks.calls import Call
from vfsim.checks.contract import Operations
from vfsim.checks.lifetime import hand_over
from vfsim.checks.rules import (
    MayBlock,
    acquires,
    cannot_fail,
    gives_ref,
    must_hold,
    prototype,
    releases,
    row,
    watch,
)
from vfsim.fs.operations.super_operations import SuperOperations
from vfsim.fs.refusal import Refusal, checked
from vfsim.sim.errors import ENODEV

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.block.disk import RamDisk
    from vfsim.fs.dcache import Dentry
    from vfsim.fs.super import SuperBlock


# -- what `watch` looks at -------------------------------------------------------------------------


def returns_a_root(call: Call) -> Iterator[None]:
    """P13: a dentry or an error, never nothing."""
    yield
    if call.error is None:
        root = call.result
        if call.check("P13", hasattr(root, "d_sb"), f"returned {root!r}, not the root dentry"):
            hand_over(root.d_sb, "mount")  # its active reference


def shuts_down(call: Call, sb: SuperBlock) -> Iterator[None]:
    """P16: nobody finds the superblock any more, and nothing of it is left in use."""
    from vfsim.fs.superblock import is_listed

    mounted = sb.s_root is not None
    plain = SuperOperations.put_super
    put = not mounted or getattr(type(sb.s_op), "put_super", plain) is plain

    def noted(which: SuperBlock) -> None:
        nonlocal put
        put = put or which is sb

    call.listeners["put_super"] = noted
    yield
    call.check(
        "P16",
        put and not is_listed(sb) and (not mounted or sb.s_root is None),
        "returned before the superblock was shut down",
        "generic_shutdown_super(), or a helper that calls it, ends a superblock",
    )


# -- the table -------------------------------------------------------------------------------------


class FileSystemType(Operations):
    """A kind of filesystem: how to mount one and how to end it.  ``vfsim check`` starts from here.

    Attributes:
        name: what mount(2) and /proc/filesystems call it.
        device: a disk to make and mount it on, or None for one in memory.
        fs_flags: FS_* flags (see `vfsim.fs.super`).
        refuses: which system calls fail by design, and with what (see `vfsim.fs.refusal`).
    """

    table = "file_system_type"
    columns = (MayBlock("may block"),)

    name: str = ""
    device: RamDisk | None = None
    fs_flags: int = 0
    refuses: tuple[Refusal, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        checked(cls, cls.refuses)

    @classmethod
    def mkfs(cls, device: RamDisk) -> None:
        """Write an empty filesystem to a disk, from outside of the simulation.

        Left out: the disk stays blank.
        """

    @prototype("struct dentry *(*mount) (struct file_system_type *, int, const char *, void *);")
    @row("yes")
    @acquires("return.d_sb.s_umount", rule="P14")
    @gives_ref("return")
    @watch(returns_a_root)
    def mount(self, flags: int, dev_name: str, data: str) -> Dentry:
        """Sleeps.  Find or make a superblock and return its root, with a reference and with
        ``s_umount`` held.

        ``mount_nodev`` and ``mount_bdev`` do all that, given a function that fills the superblock.

        Left out: `fill_super` does that, on the disk if there is one; each mount in memory is a new
        filesystem.
        """
        from vfsim.fs.super import mount_bdev, mount_nodev

        if self.device is not None:
            return mount_bdev(self, flags, dev_name, data, self.fill_super)
        return mount_nodev(self, flags, data, self.fill_super)

    def fill_super(self, sb: SuperBlock, data: Any) -> None:
        """Sleeps.  Set ``s_op`` and ``s_root`` of a new superblock.

        Left out: there is nothing to mount, ENODEV.
        """
        raise ENODEV()

    @prototype("void (*kill_sb) (struct super_block *);")
    @row("yes")
    @must_hold("sb.s_umount", rule="P15")
    @releases("sb.s_umount", rule="P16")
    @watch(shuts_down)
    @cannot_fail
    def kill_sb(self, sb: SuperBlock) -> None:
        """Sleeps.  Shut the superblock down, unlock ``s_umount``, let go of what `mount` took.

        ``kill_litter_super``, ``kill_anon_super`` and ``kill_block_super`` do all that.

        Left out: by ``kill_block_super`` with a device, else by ``kill_anon_super``.
        """
        from vfsim.fs.super import kill_anon_super, kill_block_super

        if sb.s_bdev is not None:
            kill_block_super(sb)
        else:
            kill_anon_super(sb)
