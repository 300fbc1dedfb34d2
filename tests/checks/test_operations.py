"""The real tables: what is checked agrees with what is declared, the pages tell the truth, NULL
does what Linux does.
"""

from __future__ import annotations

import ast
import errno
import importlib
import inspect
import pkgutil
import random
import stat
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import vfsim
from tests.checks.contract_world import run
from vfsim.block import operations as block_page
from vfsim.checks import promises, tables
from vfsim.checks.contract import TABLES, Method, Operations, methods_of, verify_paths
from vfsim.checks.rules import RULES, Kind
from vfsim.fs import operations as fs_page
from vfsim.fs.operations import bits as fs_bits
from vfsim.fs.writers import SB_FREEZE_COMPLETE, SB_FREEZE_FS, SB_UNFROZEN
from vfsim.locks.bitlock import SleepBit
from vfsim.locks.mutex import Mutex
from vfsim.locks.percpu_rwsem import PerCpuRwSem
from vfsim.locks.rwsem import RwSem
from vfsim.locks.spinlock import SpinLock
from vfsim.mm import operations as mm_page
from vfsim.mm.operations import bits as mm_bits
from vfsim.sim.errors import Violation
from vfsim.sim.judge import Judge
from vfsim.sim.machine import Machine
from vfsim.sim.state import K

METHODS = [m for name in tables.DOCUMENT for m in tables.listed(TABLES[name])]
IDS = [m.id for m in METHODS]


# -- the wrapper and its slow twin -----------------------------------------------------------------

_LOCKS: dict[str, Callable[[], Any]] = {
    "i_rwsem": lambda: RwSem("i_rwsem"),
    "s_umount": lambda: RwSem("s_umount"),
    "mmap_sem": lambda: RwSem("mmap_sem"),
    "i_lock": lambda: SpinLock("i_lock"),
    "d_lock": lambda: SpinLock("d_lock"),
    "ptl": lambda: SpinLock("ptl"),
    "lock": lambda: SleepBit("page_lock"),
    "bd_mutex": lambda: Mutex("bd_mutex"),
    "s_vfs_rename_mutex": lambda: Mutex("s_vfs_rename_mutex"),
    "dqio_sem": lambda: Mutex("dqio_sem"),
    "dqonoff_sem": lambda: Mutex("dqonoff_sem"),
    "dqptr_sem": lambda: Mutex("dqptr_sem"),
    "flc_lock": lambda: SpinLock("flc_lock"),
    "rename_lock": lambda: SpinLock("rename_lock"),
    "namespace_sem": lambda: RwSem("namespace_sem"),
    "blocked_lock_lock": lambda: SpinLock("blocked_lock_lock"),
}
_TYPES = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFBLK)


class Fake:
    """An object that has every field, made up when it is asked for."""

    def __init__(self, world: World) -> None:
        self.__dict__["world"] = world

    def __getattr__(self, name: str) -> Any:
        self.__dict__[name] = made = self.world.invent(name)
        return made


class World:
    """Made-up objects, with locks that are held or not as the dice say."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.locks: list[Any] = []

    def invent(self, name: str) -> Any:
        dice = self.dice
        if name in _LOCKS:
            self.locks.append(_LOCKS[name]())
            return self.locks[-1]
        if name == "rw_sem":
            made = [PerCpuRwSem(f"level{i}") for i in range(3)]
            self.locks += made
            return made
        if name == "frozen":
            return dice.choice([SB_UNFROZEN, SB_FREEZE_FS, SB_FREEZE_COMPLETE])
        if name == "d_flags":
            return dice.choice([0, fs_bits.DCACHE_PAR_LOOKUP])
        if name == "i_mode":
            return dice.choice(_TYPES) | 0o644
        if name in ("dirty", "writeback", "is_lease"):
            return dice.random() < 0.5
        if name in (
            "i_flags",
            "i_state",
            "i_count",
            "raw_tags",
            "f_flags",
            "mm_users",
            "sync_mode",
            "nr_to_write",
        ):
            return dice.choice([0, 0, 1, 2, 1 << 3, 1 << 4, 1 << 5])
        if name in ("private", "pages", "d_lookups", "s_inodes", "s_inode_lru"):
            return {}
        if name in (
            "pages_skipped",
            "io_count",
            "open_flags",
            "s_active",
            "range_start",
            "range_end",
        ):
            return dice.randrange(2)
        if name in ("d_inode", "mapping", "page"):
            return Fake(self) if dice.random() < 0.8 else None
        return Fake(self)

    def argument(self, name: str) -> Any:
        dice = self.dice
        if name in ("flags", "mask", "open_flag", "open_flags", "gfp", "mode", "on"):
            return dice.choice([0, 0x40, 0x80, 0o100, 2, 0x400000])
        if name == "rcu_walk":
            return dice.random() < 0.5
        if name == "pages":
            return [Fake(self)]
        if name in ("dentry", "inode") and dice.random() < 0.1:
            return None
        return Fake(self)

    def hold_some(self) -> None:
        """Take what the objects have, in a mode or not at all."""
        for lock in sorted(self.locks, key=lambda lock: not isinstance(lock, PerCpuRwSem)):
            if lock.is_locked():
                continue
            if isinstance(lock, RwSem | PerCpuRwSem):
                self.dice.choice([lock.down_read, lock.down_write, lambda: None])()
            elif self.dice.random() < 0.5:
                lock.lock()


class Told(Judge):
    """Allows everything."""


def recorded(machine: Machine) -> list[str]:
    """The rules that calls from a test broke."""
    return [v.rule for v in machine.violations if v.blamed == "test"]


def agree(method: Method, seed: int) -> tuple[set[str], set[str]]:
    """The broken rules of one random call, by the compiled wrapper and one by one."""
    dice = random.Random(f"{method.id}{seed}")
    cls: Any = type(Operations)("Fakes", (TABLES[method.table],), {method.name: _empty(method)})
    found: list[set[str]] = []

    def body() -> None:
        world = World(dice)
        for name in ("rename_lock", "namespace_sem", "blocked_lock_lock"):
            if dice.random() < 0.7:
                K.machine.data[name] = world.invent(name)
        if dice.random() < 0.3:
            world.invent("flc_lock")
        given = {p: world.argument(p) for p in method.params}
        _explore(method, given)
        world.hold_some()
        slow = {c.rule for c in method.entry if promises.broken(c, K.cur, given)}
        found.append(slow)
        getattr(cls(), method.name)(*given.values())

    machine = Machine(judge=Told())
    try:
        machine.spawn(body)
        machine.run()
        found.append(set(recorded(machine)) & {c.rule for c in method.entry})
    finally:
        machine.bury()
        method.sites[:] = [s for s in method.sites if s.cls is not cls]
    return found[0], found[1]


def _empty(method: Method) -> Any:
    space: dict[str, Any] = {}
    exec(f"def {method.name}(self, {', '.join(method.params)}): pass", space)
    return space[method.name]


def _explore(method: Method, given: dict[str, Any]) -> None:
    """Make the objects that the clauses look at: their locks must exist to be taken."""
    for clause in method.entry:
        try:
            promises.broken(clause, K.cur, given)
        except AttributeError:
            pass


@pytest.mark.parametrize("method", [m for m in METHODS if m.entry], ids=lambda m: m.id)
def test_the_compiled_checks_say_what_the_slow_ones_say(method: Method) -> None:
    """On random objects, locks and flags: the same broken rules, no more and no fewer."""
    some = 0
    for seed in range(12):
        try:
            slow, fast = agree(method, seed)
        except AttributeError:
            continue  # a condition met a made-up None that the kernel never passes
        assert fast == slow, seed
        some += bool(slow)
    assert some or method.id in _RARELY_WRONG


_RARELY_WRONG: tuple[str, ...] = ()


def test_each_broken_rule_can_be_told_apart() -> None:
    """Every clause names a rule that is a cell of its method or a declared prose rule (references
    have neither).
    """
    for method in METHODS:
        cells = {c.rule for c in method.cells}
        for clause in method.clauses:
            if clause.kind not in (Kind.GIVES, Kind.TAKES):
                assert clause.rule in cells or clause.rule in RULES, (method.id, clause.rule)


# -- the pages -------------------------------------------------------------------------------------


def pages() -> Iterator[ModuleType]:
    """The modules that the contract stands in."""
    for page in (fs_page, mm_page, block_page):
        yield page
        for info in pkgutil.iter_modules(getattr(page, "__path__", [])):
            yield importlib.import_module(f"{page.__name__}.{info.name}")


@pytest.mark.parametrize("name", tables.DOCUMENT)
def test_a_page_opens_with_its_tables(name: str) -> None:
    """The docstring prints them as the document does, and cannot drift."""
    page = sys.modules[TABLES[name].__module__]
    shown = inspect.cleandoc(page.__doc__ or "")
    indented = "\n".join(f"    {line}".rstrip() for line in tables.as_table(name).splitlines())
    assert indented in shown


def test_an_index_names_its_pages() -> None:
    """What a package of pages opens with lists each table in it."""
    for name in tables.DOCUMENT:
        index, _, page = TABLES[name].__module__.rpartition(".")
        if index.endswith(".operations"):
            assert f"`{page}`" in (sys.modules[index].__doc__ or ""), name


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_docstrings_say_whether_a_method_sleeps(method: Method) -> None:
    """ "Never sleeps." where the contract forbids it always, else "Sleeps."."""
    doc = method.fn.__doc__
    assert doc, method.id
    never = any(c.when is None for c in method.of(Kind.NEVER))
    assert doc.startswith("Never sleeps." if never else "Sleeps."), doc


def _everything() -> dict[str, type]:
    """Every class of vfsim's lower floors by name, and every module imported."""
    found: dict[str, type] = {}
    for floor in ("locks", "block", "mm", "fs"):
        package = importlib.import_module(f"vfsim.{floor}")
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"vfsim.{floor}.{info.name}")
            found.update({n: c for n, c in vars(module).items() if isinstance(c, type)})
    return found


def test_paths_lead_to_locks() -> None:
    """Followed through the classes' annotations: no field is misspelt; what cannot be followed is
    of a later part.
    """
    lost = {
        k: v for k, v in verify_paths(_everything()).items() if k.split(".")[0] in tables.DOCUMENT
    }
    untyped = ("vma.", "vmf.", "sb.s_dquot.", "return.0.")
    assert {
        k: v
        for k, v in lost.items()
        if not k.startswith("zoo.") and not k.split(" ")[1].startswith(untyped)
    } == {}


def test_bodies_import_what_exists() -> None:
    """Base bodies reach for the kernel's helpers by name when they run."""
    for page in pages():
        for node in ast.walk(ast.parse(inspect.getsource(page))):
            if isinstance(node, ast.ImportFrom) and node.col_offset > 4:
                module = importlib.import_module(node.module or "")
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module}.{name.name}"


NULL = {
    "inode_operations": {
        "lookup": "ENOTDIR",
        "create": "EACCES",
        "link": "EPERM",
        "unlink": "EPERM",
        "symlink": "EPERM",
        "mkdir": "EPERM",
        "rmdir": "EPERM",
        "mknod": "EPERM",
        "rename": "EPERM",
        "get_link": "EINVAL",
        "fiemap": "EOPNOTSUPP",
        "tmpfile": "EOPNOTSUPP",
        "atomic_open": "ENOSYS",
    },
    "file_operations": {
        "llseek": "ESPIPE",
        "read": "EINVAL",
        "write": "EINVAL",
        "read_iter": "EINVAL",
        "write_iter": "EINVAL",
        "iterate": "ENOTDIR",
        "unlocked_ioctl": "ENOTTY",
        "compat_ioctl": "ENOTTY",
        "mmap": "ENODEV",
        "fsync": "EINVAL",
        "fallocate": "EOPNOTSUPP",
    },
    "super_operations": {"statfs": "ENOSYS", "quota_read": "EINVAL", "quota_write": "EINVAL"},
    "xattr_handler": {"get": "EOPNOTSUPP", "set": "EOPNOTSUPP"},
    "block_device_operations": {
        "ioctl": "ENOTTY",
        "compat_ioctl": "ENOTTY",
        "getgeo": "ENOTTY",
        "direct_access": "EOPNOTSUPP",
    },
    "address_space_operations": {"bmap": "EINVAL", "direct_IO": "EINVAL", "migratepage": "EINVAL"},
}


@pytest.mark.parametrize(("table", "name"), [(t, n) for t in NULL for n in NULL[t]])
def test_a_method_left_out_raises_linuxs_errno(table: str, name: str) -> None:
    """What a filesystem without the method gives its callers."""
    method = methods_of(TABLES[table])[name]
    with pytest.raises(OSError) as caught:
        method.fn(TABLES[table](), *[None] * len(method.params))
    assert caught.value.errno == getattr(errno, NULL[table][name])


def test_constants_agree_with_those_of_the_kernel() -> None:
    """The pages stand below the files that define them, so they have copies."""
    inode = importlib.import_module("vfsim.fs.inode")
    dentry = importlib.import_module("vfsim.fs.dentry")
    page = importlib.import_module("vfsim.mm.page")
    writepages = importlib.import_module("vfsim.mm.writepages")
    permission = importlib.import_module("vfsim.fs.permission")
    for name in ("S_DEAD", "I_NEW", "I_FREEING", "I_CLEAR", "I_SYNC"):
        assert getattr(inode, name) == getattr(fs_bits, name), name
    assert permission.MAY_NOT_BLOCK == fs_bits.MAY_NOT_BLOCK
    assert dentry.DCACHE_PAR_LOOKUP == fs_bits.DCACHE_PAR_LOOKUP
    assert (page.DIRTY, page.PAGE_SHIFT) == (mm_bits.DIRTY_TAG, mm_bits.PAGE_SHIFT)
    assert writepages.AOP_WRITEPAGE_ACTIVATE == mm_page.AOP_WRITEPAGE_ACTIVATE
    assert (writepages.WB_SYNC_NONE, writepages.WB_SYNC_ALL) == (
        mm_page.WB_SYNC_NONE,
        mm_page.WB_SYNC_ALL,
    )


def test_a_filesystem_is_written_against_the_pages_alone() -> None:
    """Nothing else has to be imported to make one, and nothing is wrong with an empty one."""

    class Dir(fs_page.InodeOperations):
        def create(self, dir: Any, dentry: Any, mode: int, excl: bool) -> None: ...

    class Aops(mm_page.AddressSpaceOperations): ...

    assert Dir.implements("create") and not Aops.implements("readpage")
    found: list[Violation] = run(lambda: None)
    assert found == [] and vfsim is not None
