"""Who may do what: mode bits, groups, capabilities."""

from __future__ import annotations

import os

import pytest

from tests.fs.conftest import Expect
from vfsim.filesystems.libfs import SimpleFileInodeOperations
from vfsim.filesystems.ramfs import RamFS
from vfsim.fs.inode import Inode
from vfsim.fs.kernel import Kernel
from vfsim.fs.permission import MAY_EXEC, MAY_READ, MAY_WRITE, generic_permission
from vfsim.fs.process import (
    ALL_CAPS,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    NO_CAPS,
    Cred,
    user_cred,
)
from vfsim.fs.syscalls import Sys
from vfsim.sim.errors import EACCES
from vfsim.sim.state import K


class Node:
    """As much of an inode as permissions look at."""

    def __init__(self, mode: int, uid: int = 1000, gid: int = 100) -> None:
        self.i_mode = mode
        self.i_uid = uid
        self.i_gid = gid
        self.i_sb = self
        self.s_flags = 0


def allowed(k: Kernel, cred: Cred, node: Node, mask: int) -> bool:
    """Whether a process with these credentials may."""

    def ask(sys: Sys) -> bool:
        K.cur.process.cred = cred
        try:
            generic_permission(node, mask)  # type: ignore[arg-type]
        except OSError as error:
            assert error.errno == EACCES().errno
            return False
        return True

    return k.call(ask)


@pytest.mark.parametrize(
    ("uid", "gid", "groups", "mode", "mask", "answer"),
    [
        (1000, 1, (), 0o400, MAY_READ, True),
        (1000, 1, (), 0o400, MAY_WRITE, False),
        (
            1000,
            100,
            (),
            0o077,
            MAY_READ,
            False,
        ),  # the owner's bits count, even if others' are wider
        (1, 100, (), 0o040, MAY_READ, True),
        (1, 100, (), 0o007, MAY_READ, False),
        (1, 1, (100,), 0o040, MAY_READ, True),
        (1, 1, (99,), 0o040, MAY_READ, False),
        (1, 1, (), 0o001, MAY_EXEC, True),
        (1, 1, (), 0o006, MAY_READ | MAY_WRITE, True),
        (1, 1, (), 0o006, MAY_READ | MAY_EXEC, False),
    ],
)
def test_mode_bits(
    k: Kernel, uid: int, gid: int, groups: tuple[int, ...], mode: int, mask: int, answer: bool
) -> None:
    """Owner, else group, else others: exactly one of the three sets of bits counts."""
    node = Node(0o100000 | mode)
    assert allowed(k, user_cred(uid, gid, groups), node, mask) is answer


@pytest.mark.parametrize(
    ("cap", "mode", "mask", "answer"),
    [
        (CAP_DAC_OVERRIDE, 0o100000, MAY_READ | MAY_WRITE, True),
        (CAP_DAC_OVERRIDE, 0o100000, MAY_EXEC, False),
        (CAP_DAC_OVERRIDE, 0o100001, MAY_EXEC, True),
        (CAP_DAC_OVERRIDE, 0o040000, MAY_EXEC, True),
        (CAP_DAC_READ_SEARCH, 0o100000, MAY_READ, True),
        (CAP_DAC_READ_SEARCH, 0o100000, MAY_READ | MAY_WRITE, False),
        (CAP_DAC_READ_SEARCH, 0o040000, MAY_READ | MAY_EXEC, True),
        (CAP_DAC_READ_SEARCH, 0o040000, MAY_WRITE, False),
    ],
)
def test_capabilities(k: Kernel, cap: str, mode: int, mask: int, answer: bool) -> None:
    """The two DAC capabilities override bits, except executing what nobody may execute."""
    cred = Cred(uid=1, gid=1, caps=frozenset({cap}))
    assert allowed(k, cred, Node(mode), mask) is answer


def test_access_uses_the_real_user(k: Kernel, expect: Expect) -> None:
    """access(2) answers for the real user, whatever the effective one is."""

    def root(sys: Sys) -> None:
        sys.close(sys.open("/f", os.O_CREAT, 0o600))
        sys.setuid(1000)
        expect.EACCES(sys.open, "/f")
        sys.access("/f", os.R_OK | os.W_OK)
        expect.EACCES(sys.access, "/f", os.X_OK)
        expect.EINVAL(sys.access, "/f", 8)
        expect.ENOENT(sys.access, "/x", os.F_OK)
        assert sys.getuid() == 1000, "the credentials are back"

    def user(sys: Sys) -> None:
        sys.access("/f", os.F_OK)
        expect.EACCES(sys.access, "/f", os.R_OK)

    k.call(root)
    k.call(user, uid=1000)


def test_credentials_are_values(k: Kernel, expect: Expect) -> None:
    """Changing them makes new ones; an unprivileged process can only go back to what it was."""
    cred = user_cred(0, 0)
    assert cred.with_uid(5).caps == NO_CAPS
    assert cred.with_uid(5).with_uid(0).caps == ALL_CAPS
    assert cred.caps == ALL_CAPS
    with pytest.raises(ValueError, match="an integer from 0"):
        cred.with_uid(-1)
    with pytest.raises(PermissionError):
        user_cred(5, 5).with_uid(0)
    with pytest.raises(PermissionError):
        user_cred(5, 5).with_groups([1])

    def go(sys: Sys) -> None:
        sys.setgroups([7, 8])
        sys.setgid(5)
        sys.setuid(5)
        assert K.cur.process.cred.in_group(8)
        expect.EPERM(sys.setuid, 6)
        expect.EPERM(sys.setgid, 6)
        expect.EPERM(sys.setgroups, [1])
        sys.setuid(0)

    k.call(go)


def test_kernel_threads_may_do_everything(k: Kernel) -> None:
    """A task without a process has root's rights."""
    done = []

    def thread() -> None:
        generic_permission(Node(0o040000), MAY_WRITE)  # type: ignore[arg-type]
        done.append(True)

    k.machine.spawn(thread)
    k.run()
    assert done


def test_the_filesystem_may_decide(k: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``permission`` method replaces the generic rule."""

    class Strict(SimpleFileInodeOperations):
        """Nobody may read."""

        def permission(self, inode: Inode, mask: int) -> None:
            """Sleeps.  No."""
            if mask & MAY_READ:
                raise EACCES()

    monkeypatch.setattr(RamFS, "file", Strict())

    def go(sys: Sys) -> None:
        sys.close(sys.open("/f", os.O_CREAT | os.O_WRONLY))
        with pytest.raises(PermissionError):
            sys.open("/f")
        sys.close(sys.open("/f", os.O_WRONLY))

    k.call(go)
