"""Mutants: a filesystem or a kernel with one thing wrong, and a program that comes by.

A `Mutant` is wholefs with `inside` (methods replaced by changed ones: the filesystem's mistakes),
`around` (calls of methods changed where the kernel makes them) and `patches` (functions of the
kernel replaced for the time of the run).  `play` runs a program of system calls on it, through
mount, processes and umount, and returns what was found.

Nothing in the kernel or in the checks knows of mutants.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.block.disk import RamDisk
from vfsim.block.operations import BlockDeviceOperations
from vfsim.checks.calls import WARNINGS
from vfsim.checks.contract import TABLES, Operations, methods_of
from vfsim.checks.counters import uncounted
from vfsim.explore.execute import explain
from vfsim.filesystems.wholefs import WholeFS
from vfsim.fs.kernel import Kernel
from vfsim.sim.errors import KernelBug
from vfsim.testing.selftest.case import CAUGHT, SILENT, Case
from vfsim.testing.selftest.changes import Call
from vfsim.testing.selftest.standing import FILESYSTEM, KERNEL, standing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from vfsim.block.device import BlockDevice
    from vfsim.fs.operations import FileSystemType
    from vfsim.fs.syscalls import Sys
    from vfsim.sim.errors import Violation
    from vfsim.testing.selftest.changes import Change

    Program = Callable[[Sys], Any]
    Changes = Mapping[str, Change]

SECTORS = 4096
_MAX_STEPS = 50_000


class Driver(BlockDeviceOperations):
    """A driver that has every method which the kernel calls."""

    def open(self, bdev: BlockDevice, mode: int) -> None:
        """Never sleeps.  Fine."""

    def release(self, disk: RamDisk, mode: int) -> None:
        """Never sleeps.  Fine."""


class Ground(WholeFS):
    """The clean filesystem, and the driver of the disk that it is on."""

    driver: BlockDeviceOperations = Driver()


@attrs.frozen
class Mutant:
    """One mistake.

    Attributes:
        rule: what it breaks.  side: ``caller`` or ``filesystem``.
        why: what is wrong, in a sentence.
        program: the system calls that come by.
        inside, around: changes of methods, by ``TABLE.METHOD``.
        patches: functions of the kernel, by ``module.function``.
        fires: rules that count as the catch, if not ``rule``.
        blamed: who must be blamed, if not as ``side`` says.
        variant: what tells it from another one of the same rule and side.
        ground: the clean filesystem that it is made from.
    """

    rule: str
    side: str
    why: str
    program: Program
    inside: Changes = attrs.field(factory=dict)
    around: Changes = attrs.field(factory=dict)
    patches: Mapping[str, Callable[..., Any]] = attrs.field(factory=dict)
    fires: tuple[str, ...] = ()
    blamed: str = ""
    variant: str = ""
    ground: type[FileSystemType] = Ground

    @property
    def id(self) -> str:
        """``RULE.SIDE``, and the variant."""
        words = f".{self.variant.replace(' ', '-')}" if self.variant else ""
        return f"{self.rule}.{self.side}{words}"

    def case(self) -> Case:
        """It must be caught."""
        blamed = self.blamed or ("kernel" if self.side == "caller" else "filesystem")
        return Case(
            self.id, self.rule, CAUGHT, self.run, self.fires or (self.rule,), blamed, self.why
        )

    def run(self) -> list[Violation]:
        """Everything that was found."""
        with uncounted():
            made = mutated(self.ground, self.inside, self.around)
            return play(made, self.program, self.patches)


def clean(name: str, program: Program, ground: type[FileSystemType] = Ground, **other: Any) -> Case:
    """The unmutated counterpart of some mutants: it must be silent.

    ``other``: changes that are right, as `Mutant` has them.
    """
    made = Mutant(f"clean.{name}", "both", "nothing is wrong", program, ground=ground, **other)
    return Case(f"clean.{name}", "clean", SILENT, made.run, (), "", made.why)


# -- putting changes in their place ----------------------------------------------------------------


def mutated(ground: type[FileSystemType], inside: Changes, around: Changes) -> type[FileSystemType]:
    """A filesystem like ``ground``, but for some methods and some calls.

    Raises:
        LookupError: ``ground`` does not have such a method.
    """
    space: dict[str, Any] = {}
    for name in {**inside, **around}:
        found = False
        for attribute, ops in _tables(ground):
            ops = space.get(attribute, ops)
            if _has(type(ops), name):
                space[attribute] = _heir(type(ops), name, inside, around)()
                found = True
        if not found and not _has(ground, name):
            raise LookupError(f"{ground.__name__} has no {name}")
    cls: Any = type(ground)
    made: type[FileSystemType] = cls(
        ground.__name__, (ground,), {"__module__": FILESYSTEM, **space}
    )
    for name in {**inside, **around}:
        if _has(ground, name):
            made = _heir(made, name, inside, around)
    return made


def overridden(ground: type[FileSystemType]) -> type[FileSystemType]:
    """A filesystem that overrides every method of ``ground`` just to call it."""
    space: dict[str, Any] = {}
    for attribute, ops in _tables(ground):
        cls: Any = type(ops)
        space[attribute] = type(cls)(cls.__name__, (cls,), _overrides(cls))()
    made: Any = type(ground)
    return made(ground.__name__, (ground,), {**_overrides(ground), **space})  # type: ignore[no-any-return]


def _overrides(cls: type[Operations]) -> dict[str, Any]:
    names = [name for name in methods_of(cls) if cls.implements(name)]
    return {"__module__": FILESYSTEM, **{name: _passed_on(getattr(cls, name)) for name in names}}


def _passed_on(fn: Callable[..., Any]) -> Callable[..., Any]:
    def override(self: Any, *args: Any, **kwargs: Any) -> Any:
        return fn(self, *args, **kwargs)

    return standing_in(override, FILESYSTEM)


def _tables(ground: type[FileSystemType]) -> Iterator[tuple[str, Operations]]:
    """The tables of a filesystem, by attribute."""
    for attribute in dir(ground):
        ops = getattr(ground, attribute, None)
        if isinstance(ops, Operations):
            yield attribute, ops


def _has(cls: type[Operations], name: str) -> bool:
    table, _, method = name.partition(".")
    known = methods_of(cls).get(method)
    return known is not None and known.table == table and cls.implements(method)


def _heir(cls: Any, name: str, inside: Changes, around: Changes) -> Any:
    """A subclass with one method changed, inside or around or both."""
    method = name.partition(".")[2]
    space: dict[str, Any] = {"__module__": FILESYSTEM}
    if name in inside:
        space[method] = _changed(getattr(cls, method).__wrapped__, name, inside[name], FILESYSTEM)
    made = type(cls)(cls.__name__, (cls,), space)
    if name in around:
        shim = _changed(getattr(made, method), name, around[name], KERNEL)
        type.__setattr__(made, method, shim)
    return made


def _changed(fn: Callable[..., Any], name: str, change: Change, module: str) -> Callable[..., Any]:
    """A method that does ``change`` about ``fn``, in the name of ``module``."""
    table, _, method = name.partition(".")
    params = methods_of(TABLES[table])[method].params
    wrong = standing_in(change, module)

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = {**dict(zip(params, args, strict=False)), **kwargs}
        return wrong(Call(functools.partial(fn, self), named))

    return standing_in(changed, module)


@contextlib.contextmanager
def patched(patches: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Functions of the kernel replaced, wherever the kernel has imported them.

    A patch is called with the function it replaces in front of that one's arguments.
    """
    undo: list[tuple[Any, str, Any]] = []
    try:
        for path, patch in patches.items():
            module, _, name = path.rpartition(".")
            real = getattr(importlib.import_module(module), name)
            put = functools.wraps(real)(_patch(standing_in(patch, KERNEL), real))
            for place in _kernel():
                for key in [k for k, value in vars(place).items() if value is real]:
                    undo.append((place, key, real))
                    setattr(place, key, put)
        yield
    finally:
        for place, key, real in reversed(undo):
            setattr(place, key, real)


def _kernel() -> list[ModuleType]:
    """The modules of the kernel, and of the filesystems that borrow from it."""
    floors = ("vfsim.fs", "vfsim.mm", "vfsim.block", "vfsim.filesystems")
    return [m for name, m in list(sys.modules.items()) if name.startswith(floors)]


def _patch(patch: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return patch(real, *args, **kwargs)

    return standing_in(replaced, KERNEL)


# -- running ---------------------------------------------------------------------------------------


def play(
    filesystem: type[FileSystemType],
    program: Program,
    patches: Mapping[str, Callable[..., Any]] | None = None,
) -> list[Violation]:
    """Mount, run the program as a process, unmount; returns everything that was found, warnings
    last.

    What the program itself raises counts, if nothing else explains it.
    """
    kernel = Kernel(max_steps=_MAX_STEPS)
    disk = RamDisk(sectors=SECTORS)
    disk.fops = getattr(filesystem, "driver", disk.fops)
    try:
        with patched(patches or {}):
            try:
                kernel.mount(filesystem, "/", device=disk)
                kernel.call(program)
            except KernelBug:
                pass  # it is among the violations
            except Exception as error:
                if not kernel.violations:
                    kernel.machine.violation(explain(error, _Named(program), "run"))  # type: ignore[arg-type]
            if not kernel.machine.stopped and not kernel.machine.dead:
                kernel.close()
    finally:
        kernel.machine.bury()
    return [*kernel.violations, *kernel.machine.data.get(WARNINGS, ())]


class _Named:
    """What `explain` wants to know of a program."""

    blamed = "test"

    def __init__(self, program: Program) -> None:
        self.name = program.__name__
