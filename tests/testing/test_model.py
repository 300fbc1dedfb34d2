"""The model is Linux: held against the kernel underneath, and then our kernel against it."""

from __future__ import annotations

import errno
import os
from stat import S_IFDIR

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from examples.tinydisk import TinyDisk
from examples.toyfs import ToyFS
from tests.testing import host
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import Dentry, Inode
from vfsim.fs.kernel import Kernel
from vfsim.testing import strategies as vst
from vfsim.testing.conformance import KernelGround, probe
from vfsim.testing.model import (
    Call,
    Model,
    Traits,
    agrees,
    descriptors,
    differences,
    from_snapshot,
    snapshot,
    tree_descriptors,
    tree_snapshot,
)
from vfsim.testing.model.tree import Proc
from vfsim.testing.scenario import Outcome

IMPOSSIBLE = host.possible()
QUIET = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


# The kernel underneath.  -------------------------------------------------------------------------


def differs_by_version(call: Call, want: Outcome, seen: Outcome) -> bool:
    """What Linux changed since v4.10, or a host's settings change."""
    if call.name == "open" and call.args[1] & os.O_EXCL:
        return {want.errno, seen.errno} == {errno.EISDIR, errno.EEXIST}  # O_EXCL of a directory
    return False


def on_the_host(calls: list[Call]) -> str:
    """Make the calls in this process, which has a tree of its own; what the model got wrong."""
    os.closerange(host.FIRST_FD, host.KEPT_FD)
    os.setgroups([])
    sys = host.FreshSys()
    model = Model()
    model.tree.procs[0] = Proc()
    told = []
    for call in calls:
        if call.name == "link" and os.geteuid():
            continue  # fs.protected_hardlinks
        seen = call.make(sys)
        want = model.run(call, 0, seen)
        told.append(f"{call} = {seen}")
        if differs_by_version(call, want, seen):
            continue
        if not agrees(call, want, seen, model.tree.traits):
            return "\n".join([*told, f"should be {want}"])
        user, group = os.geteuid(), os.getegid()
        os.seteuid(0)
        os.setegid(0)
        wrong = differences(model.snapshot(), snapshot(sys), model.tree.traits)
        os.setegid(group)
        os.seteuid(user)
        if wrong:
            return "\n".join([*told, *wrong])
    return ""


def compare_with_the_host(ground: host.HostGround, programs: int) -> str:
    """Many random programs, in the child that owns ``ground``."""

    @settings(QUIET, max_examples=programs)
    @given(st.lists(vst.calls(), min_size=10, max_size=50))
    def compare(calls: list[Call]) -> None:
        wrong: list[str] = []
        ground.run([(lambda sys: wrong.append(on_the_host(calls)), False)])
        assert not wrong[0], wrong[0]

    try:
        compare()
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE)
def test_the_model_is_linux() -> None:
    """Every outcome and every tree of some thousand random calls is the real kernel's."""
    assert host.in_child(host.Tmpfs(), lambda ground: compare_with_the_host(ground, 150)) == ""


@pytest.mark.soak
@pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE)
def test_the_model_is_linux_for_long() -> None:
    """The same with some hundred thousand."""
    assert host.in_child(host.Tmpfs(), lambda ground: compare_with_the_host(ground, 5000)) == ""


# Our kernel.  ------------------------------------------------------------------------------------


def traits_of(filesystem: type) -> tuple[frozenset[str], Traits]:
    caps = probe(KernelGround(filesystem, checks=False))
    traits = Traits(
        name_max=caps.name_max,
        exchange=False,
        fsync="fsync" in caps.has,
        fsync_dir="fsync_dir" in caps.has,
        nlink="dir_nlink" in caps.has,
        owners="owners" in caps.has,
    )
    return caps.has, traits


def on_our_kernel(filesystem: type, traits: Traits, calls: list[tuple[int, Call]]) -> None:
    """Make the calls of two processes, one after the other, and compare after each."""
    kernel = Kernel()
    try:
        kernel.mount(filesystem, "/")
        model = Model(from_snapshot(kernel.call(snapshot), traits))
        processes = [kernel.login("p0"), kernel.login("p1")]
        told = []
        for who, call in calls:
            task = kernel.resume(processes[who], call.make)
            kernel.run()
            want = model.run(call, who, task.result)
            told.append(f"{who} {call} = {task.result}")
            assert agrees(call, want, task.result, traits), "\n".join([*told, f"not {want}"])
            wrong = differences(model.snapshot(), kernel.call(snapshot), traits)
            assert not wrong, "\n".join([*told, *wrong])
        for who, process in enumerate(processes):
            mine = tree_descriptors(model.tree, who)
            task = kernel.resume(process, descriptors, list(mine))
            kernel.run()
            assert task.result == mine, "\n".join(told)
            kernel.logout(process)
        kernel.shutdown()
    finally:
        kernel.machine.bury()


def compare_with_our_kernel(filesystem: type, programs: int) -> None:
    has, traits = traits_of(filesystem)
    depth = 2 if "nested" in has else 1
    calls = vst.calls(has, depth=depth, exchange=False)

    @settings(QUIET, max_examples=programs)
    @given(st.lists(st.tuples(st.integers(0, 1), calls), min_size=10, max_size=40))
    def compare(program: list[tuple[int, Call]]) -> None:
        on_our_kernel(filesystem, traits, program)

    compare()


@pytest.mark.parametrize("filesystem", [RamFS, ToyFS, TinyDisk])
def test_our_kernel_is_the_model(filesystem: type) -> None:
    """Two processes, one call at a time: every outcome, tree and descriptor is the model's."""
    compare_with_our_kernel(filesystem, 50)


@pytest.mark.soak
@pytest.mark.parametrize("filesystem", [RamFS, ToyFS, TinyDisk])
def test_our_kernel_is_the_model_for_long(filesystem: type) -> None:
    """The same with many programs."""
    compare_with_our_kernel(filesystem, 3000)


class ForgetfulDirectory(RamDirectory):
    """A new directory should give its parent a link."""

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        self.mknod(dir, dentry, mode | S_IFDIR, 0)


class ForgetfulFS(RamFS):
    name = "forgetfulfs"
    directory = ForgetfulDirectory()


def test_a_filesystem_that_differs_is_found() -> None:
    """A filesystem that forgets a link count does not agree with the model."""
    with pytest.raises(AssertionError, match=r"/: should be a dir 755 nlink=3 .* nlink=2"):
        on_our_kernel(ForgetfulFS, Traits(exchange=False), [(0, Call("mkdir", ("/d", 0o755)))])


# The model alone.  -------------------------------------------------------------------------------


def run(model: Model, name: str, *args: object, process: int = 0) -> Outcome:
    return model.run(Call(name, args), process)


def test_a_tree_survives_its_snapshot() -> None:
    """What a snapshot tells is enough to make the tree again: links, modes and contents too."""
    model = Model()
    run(model, "mkdir", "/d", 0o700)
    run(model, "open", "/d/f", os.O_CREAT | os.O_WRONLY, 0o600)
    run(model, "write", 0, b"data")
    run(model, "link", "/d/f", "/g")
    run(model, "symlink", "d/f", "/s")
    told = model.snapshot()
    assert told["/d"][:3] == ("dir", 0o700, 2)
    assert told["/g"] == ("file", 0o600, 2, 0, 0, 4, b"data", "/d/f")
    assert tree_snapshot(from_snapshot(told, Traits())) == told


def test_a_file_without_a_name_lives_while_it_is_open() -> None:
    """unlink takes the name, the descriptor keeps the data, close ends it."""
    model = Model()
    assert run(model, "open", "/f", os.O_CREAT | os.O_RDWR, 0o600) == Outcome(0, 0)
    run(model, "unlink", "/f")
    run(model, "write", 0, b"x")
    assert run(model, "fstat", 0).value[:3] == ("file", 0o600, 0)
    assert run(model, "pread", 0, 9, 0).value == b"x"
    assert run(model, "close", 0).ok
    assert run(model, "close", 0).errno == errno.EBADF


def test_a_lack_of_room_is_believed_where_there_could_be_one() -> None:
    """ENOSPC excuses a create that would have worked, not one that had to be refused."""
    full = Outcome(errno.ENOSPC)
    model = Model()
    create = Call("mkdir", ("/d", 0o755))
    assert model.run(create, 0, full) == full
    assert model.run(Call("mkdir", ("/e/d", 0o755)), 0, full).errno == errno.ENOENT


def test_an_unknown_call_is_misuse() -> None:
    """The model says what it knows."""
    with pytest.raises(ValueError, match="knows no reboot"):
        Model().run(Call("reboot"))
