"""The corpus: Linux still says what was recorded, and filesystems here say the same."""

from __future__ import annotations

from collections import Counter
from stat import S_IFDIR
from typing import Any

import pytest

from examples.tinydisk import TinyDisk
from examples.toyfs import ToyDir, ToyFS
from tests.testing import host
from tests.testing.record import answers
from vfsim.explore.replay import replay
from vfsim.explore.token import decode
from vfsim.filesystems.libfs import SimpleFileInodeOperations
from vfsim.filesystems.overfs import OverFS
from vfsim.filesystems.ramfs import RamDirectory, RamFile, RamFS
from vfsim.filesystems.wholefs import WholeFS
from vfsim.fs import Dentry, Inode
from vfsim.fs.attr import ATTR_SIZE, simple_setattr
from vfsim.fs.refusal import Refusal
from vfsim.sim.errors import EEXIST, EPERM
from vfsim.testing import check as checking
from vfsim.testing import corpus
from vfsim.testing.check import Checked, Subject, check_filesystem
from vfsim.testing.conformance import Capabilities
from vfsim.testing.conformance.corpus import Case, SimulatedActor, areas, cases, known
from vfsim.testing.conformance.corpus.answers import RECORDED, Answer, recorded, visible
from vfsim.testing.conformance.corpus.case import LISTS
from vfsim.testing.conformance.corpus.known import expected
from vfsim.testing.conformance.corpus.lists import ACCESS, packed, written
from vfsim.testing.conformance.corpus.stage import Stage
from vfsim.testing.model import Call

IMPOSSIBLE = host.possible()
asks_host = pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE)
SAMPLE = 60


# The corpus itself.  -----------------------------------------------------------------------------


def test_there_are_enough() -> None:
    """More than 20,000 cases, 2,000 of them about rename, 5,000 about extended attributes and
    access control lists, each with an id of its own.
    """
    ids = [case.id for case in cases()]
    assert len(set(ids)) == len(ids) >= 20_000
    assert len(areas()["rename"]) >= 2_000
    assert sum(id.startswith(("xattr", "acl")) for id in ids) >= 5_000
    assert sum(len(some) for some in areas().values()) == len(ids)


def test_linux_was_asked_everything() -> None:
    """Every case has its recorded answer, no other has one, and the file is small."""
    assert sorted(recorded()) == sorted(case.id for case in cases())
    assert RECORDED.stat().st_size < 300_000


def test_every_known_difference_is_about_something() -> None:
    """No row of the tables is left over: each is about a case, and has a reason."""
    rows = (*known.VERSIONS, *known.UNFINISHED)
    used = Counter(row for row in rows for id, said in recorded().items() if row.concerns(id, said))
    assert set(used) == set(rows)
    assert all(row.reason for row in rows)


def test_an_answer_reads_well() -> None:
    """What Linux said is a sentence."""
    said = recorded()["rename.file.dir"].text()
    assert said == "EISDIR, and nothing changes"
    assert recorded()["path.rmdir.dir"].text().startswith("success, and / nlink=-1 ")
    assert "/dir is gone" in recorded()["path.rmdir.dir"].text()


def test_two_answers_tell_what_is_different() -> None:
    """Of a tree in which much changes, only that."""
    right = recorded()["link.file.absent"]
    wrong = Answer(
        right.said, {**right.changed, "/file": {**right.changed["/file"], "mtime": True}}
    )
    assert right.text(wrong) == "success, and /file mtime unchanged"
    assert wrong.text(right) == "success, and /file mtime=True"
    less = Answer(right.said, {"/file": None})
    assert less.text(right) == "success, and / unchanged, /absent unchanged, /file is gone"
    assert "/absent kind='file'" in right.text(less) and right.text(right) == "success"


# The kernel underneath.  -------------------------------------------------------------------------


def changed_their_mind(some: list[Case]) -> dict[str, tuple[list[Answer], list[Answer]]]:
    """Cases to which this kernel says something else, as far as versions do not excuse it."""
    kept = recorded()
    return {
        id: (expected(id, kept[id]), expected(id, said))
        for id, said in answers(some).items()
        if expected(id, kept[id]) != expected(id, said)
    }


@asks_host
def test_linux_still_says_so() -> None:
    """A sample of the questions, asked again."""
    assert changed_their_mind(list(cases()[::SAMPLE])) == {}


@pytest.mark.soak
@asks_host
def test_linux_still_says_all_of_it() -> None:
    """Every question, asked again."""
    assert changed_their_mind(list(cases())) == {}


# Our kernel.  ------------------------------------------------------------------------------------


def ask(filesystem: type[Any], only: tuple[str, ...] = (), device: int | None = None) -> Checked:
    """The corpus, or some areas of it, as ``vfsim check`` asks it."""
    result = Checked(Subject("", filesystem, device), 0)
    some = {area: found for area, found in areas().items() if not only or area in only}
    caps = result.subject.probe()
    with checking.Watch() as watch:
        checking._corpus(result, some, caps, watch, checking.Progress())
    assert result.passed + result.failed + result.skipped == sum(map(len, some.values()))
    return result


@pytest.mark.parametrize(("filesystem", "least"), [(RamFS, 21_000), (ToyFS, 7_500), (TinyDisk, 0)])
def test_our_kernel_is_linux(filesystem: type[Any], least: int) -> None:
    """Whatever a filesystem here can do it does as Linux does."""
    result = ask(filesystem)
    assert [failure.violation.summary for failure in result.failures] == []
    assert result.passed >= least


@pytest.mark.parametrize(("filesystem", "device"), [(OverFS, None), (WholeFS, 16384)])
def test_others_have_attributes_like_linux(filesystem: type[Any], device: int | None) -> None:
    """So do filesystems that keep lists elsewhere than in the cache: in a store, or in another
    filesystem.
    """
    result = ask(filesystem, ("acl-set", "acl-new", "acl-mode", "xattr-other"), device)
    assert [failure.violation.summary for failure in result.failures] == []
    assert result.passed >= 1_400


class PlainFS(RamFS):
    """Has ``user.`` attributes and no others."""

    name = "plainfs"

    def allow_xattrs(self, sb: Any) -> None:
        sb.s_xattr = (self.user_xattrs,)


def test_only_what_a_filesystem_knows_is_asked() -> None:
    """Attributes in other namespaces are not there, nor expected in lists and changes."""
    result = ask(PlainFS, ("xattr", "acl-set"))
    assert [failure.violation.summary for failure in result.failures] == []
    assert 500 < result.passed < result.skipped
    names = {"user.kept": "1", "trusted.kept": "2", ACCESS: "u::7 g::7 o::7"}
    answer = Answer(
        [[list(names)]], {"/file": {"xattrs": names}, "/dir": {"xattrs": {ACCESS: None}}}
    )
    case = Case("xattr.x", (Call("listxattr", ("file",)),), "attributed")
    caps = Capabilities(frozenset(("create", "write", "xattrs", "trusted")))
    stage = Stage(SimulatedActor(None), "attributed", caps)  # type: ignore[arg-type]
    assert visible(answer, case, caps, stage) == Answer(
        [[["user.kept", "trusted.kept"]]],
        {"/file": {"xattrs": {"user.kept": "1", "trusted.kept": "2"}}},
    )


class MasklessFile(RamFile):
    """Its lists do not follow chmod(2)."""

    def setattr(self, dentry: Any, attr: Any) -> None:
        simple_setattr(dentry, attr)


class MasklessFS(RamFS):
    name = "masklessfs"
    file = MasklessFile()


def test_a_wrong_attribute_is_told() -> None:
    """A list that is not what it should be is found as a name or a mode would be."""
    result = ask(MasklessFS, ("acl-mode",))
    first = result.failures[0].violation
    assert first.rule == "conformance.acl-mode.f-user.chmod-0"
    assert "xattrs={'system.posix_acl_access': 'u::0 u:1004:6 g::4 m::0 o::0'}" in first.summary


def test_lists_are_written_as_they_are_read() -> None:
    """The short form of a value is the text that it was made from; what is no list stays."""
    for text in (*LISTS.values(), "", "u::6 x::4 o::10"):
        assert written(packed(text)) == text
    for value in (b"", b"value", packed("u::6")[:-1], packed("u::6", version=1)):
        assert written(value) == value.decode("latin-1")


class ForgetfulDirectory(RamDirectory):
    """A new directory should give its parent a link."""

    def mkdir(self, dir: Inode, dentry: Dentry, mode: int) -> None:
        self.mknod(dir, dentry, mode | S_IFDIR, 0)


class ForgetfulFS(RamFS):
    name = "forgetfulfs"
    directory = ForgetfulDirectory()


class SolarisDirectory(RamDirectory):
    """Says EEXIST where Linux says ENOTEMPTY."""

    def rmdir(self, dir: Inode, dentry: Dentry) -> None:
        try:
            super().rmdir(dir, dentry)
        except OSError:
            raise EEXIST() from None


class SolarisFS(RamFS):
    name = "solarisfs"
    directory = SolarisDirectory()


def test_a_wrong_errno_is_told() -> None:
    """The failure names the case, the call, and both answers; its token replays the case alone."""
    result = ask(SolarisFS, ("path",))
    first = result.failures[0]
    assert first.violation.summary == (
        "path.rmdir.full: Linux gives ENOTEMPTY, and nothing changes; "
        "got EEXIST, and nothing changes"
    )
    assert first.violation.details == ("  rmdir('full') = EEXIST (17)",)
    token = decode(first.token)
    assert token.scenario == "corpus:path.rmdir.full"
    again = replay(token, Subject("", SolarisFS).program(token.scenario))
    assert again.reproduced and again.exact


def test_a_failure_does_not_spoil_the_next() -> None:
    """Each failure is of the case that it names; whoever fails often is not asked for ever."""
    result = ask(SolarisFS, ("path", "link"))
    assert {f.violation.rule for f in result.failures} == {
        "conformance.path.rmdir.full",
        "conformance.path.rmdir.full+absolute",
        "conformance.path.rmdir.full+twice",
    }
    assert result.failed == corpus.MOST
    assert result.passed > 1_500


def test_a_wrong_tree_is_told() -> None:
    """A call that says the right thing and does the wrong one is found by what it changed."""
    result = ask(ForgetfulFS, ("value", "create-root"))
    assert result.failures[0].violation.rule == "conformance.create-root.mkdir.0.umask-0"
    assert result.failures[0].violation.summary.endswith("; success, and / nlink unchanged")


class WearyDirectory(ToyDir):
    """Tires: after a few names every new file gets other permissions."""

    count = 0

    def create(self, dir: Inode, dentry: Dentry, mode: int, excl: bool) -> None:
        dir.i_sb.s_fs_info = (dir.i_sb.s_fs_info or 0) + 1
        super().create(dir, dentry, mode if dir.i_sb.s_fs_info < 20 else 0o600, excl)


class WearyFS(ToyFS):
    name = "wearyfs"

    def fill_super(self, sb: Any, data: str) -> None:
        super().fill_super(sb, data)
        sb.s_root.d_inode.i_op = WearyDirectory()


def test_what_fails_in_company_only_is_told_so() -> None:
    """A case that is right alone is reported with those before it, and can be replayed."""
    result = ask(WearyFS, ("create-root",))
    token = decode(result.failures[0].token)
    assert token.scenario.startswith("corpus:create-root.open.0.umask-0 .. create-root")
    again = replay(token, Subject("", WearyFS).program(token.scenario))
    assert again.reproduced and again.exact


class LedgerFile(SimpleFileInodeOperations):
    """A file that keeps its size, whoever wants to set it."""

    def setattr(self, dentry: Any, attr: Any) -> None:
        if attr.ia_valid & ATTR_SIZE and attr.ia_size != dentry.d_inode.i_size:
            raise EPERM()
        super().setattr(dentry, attr)


class LedgerFS(RamFS):
    name = "ledger"
    file = LedgerFile()
    refuses = (Refusal("truncate ftruncate open", EPERM, "a file never gets shorter"),)


class UndeclaredFS(LedgerFS):
    name = "undeclared"
    refuses = ()


def test_what_is_refused_by_design_is_no_mistake() -> None:
    """A declared refusal without effect is right, and the tree is made anew where it must be."""
    result = ask(LedgerFS, ("value", "fd"))
    assert [failure.violation.summary for failure in result.failures] == []
    assert result.passed > 1_000
    assert ask(UndeclaredFS, ("value", "fd")).failed > 1


def test_a_check_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus is a part of ``vfsim check``."""
    monkeypatch.setattr(checking, "assertions", lambda: iter(()))
    monkeypatch.setattr(checking, "library", list)
    monkeypatch.setattr(checking, "areas", lambda: {"link": areas()["link"]})
    assert check_filesystem(RamFS).passed == len(areas()["link"])
    assert check_filesystem(ToyFS).skipped == len(areas()["link"])


def test_what_cannot_be_asked_is_not() -> None:
    """A case says why a filesystem is not asked."""
    by_id = {case.id: case for case in cases()}
    flat = Capabilities(has=frozenset(("create", "iterate")), name_max=14)
    assert by_id["path.stat.lfile"].why_not(flat) == "needs symlink, write", "it leads to data"
    assert by_id["path.stat.name255"].why_not(flat) == "needs names of 255 bytes"
    assert by_id["path.stat.absent"].why_not(Capabilities(frozenset())) == "needs iterate"
    assert by_id["path.stat.absent"].why_not(Capabilities(frozenset(), writable=False)) != ""
    small = Capabilities.everything().has
    assert (
        by_id["path.stat.file"].why_not(Capabilities(small, max_files=3)).startswith("needs 14 f")
    )
