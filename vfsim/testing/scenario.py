"""Scenarios: a few processes on one filesystem, and what must be true whatever the order.

A scenario is a class::

    class RenameVersusUnlink(vfsim.Scenario):
        filesystem = ToyFS

        def setup(self, sys):                        # alone, first
            sys.close(sys.open("/a", os.O_CREAT | os.O_RDWR, 0o644))

        @vfsim.task
        def renamer(self, sys):                      # one process each, all at once
            return self.outcome(sys.rename, "/a", "/b")

        @vfsim.task
        def unlinker(self, sys):
            return self.outcome(sys.unlink, "/a")

        def check(self, sys, results):               # alone, last
            assert sorted(r.errno for r in results) == [0, errno.ENOENT]

Every run gets a new object of the class, a new kernel and a new filesystem: what is stored on
``self`` in ``setup`` is there in the tasks and in ``check``, and gone in the next run.  An
AssertionError, or an OSError that nobody caught, is a wrong result and blamed on the filesystem.

A scenario can be made smaller (`Scenario.parts`, `Scenario.without`): when a failure is shrunk, the
tasks that it does not need are left out, and with them ``check``, which would miss their results.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import copy
from errno import errorcode
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

import attrs

from vfsim.block.disk import RamDisk
from vfsim.checks.counters import uncounted
from vfsim.explore.program import target_of
from vfsim.fs.kernel import Kernel
from vfsim.sim.faults import kinds
from vfsim.testing.audit import audit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vfsim.checks.audit import Audit
    from vfsim.explore.program import Program
    from vfsim.explore.token import Option
    from vfsim.fs.operations import FileSystemType
    from vfsim.fs.syscalls import Sys
    from vfsim.sim.trace import Trace

F = TypeVar("F", bound="Callable[..., Any]")
_MARK = "__vfsim_task__"

LEFT_OUT = "without"
"""The option of a program that names the parts of its scenario that it lacks."""


@attrs.frozen
class Outcome:
    """What a system call came to: its errno (0 if it worked) and its value."""

    errno: int
    value: Any = None

    @property
    def ok(self) -> bool:
        """Whether it worked."""
        return self.errno == 0

    def __repr__(self) -> str:
        return errorcode.get(self.errno, str(self.errno)) if self.errno else f"ok({self.value!r})"


def task(method: F) -> F:
    """Mark a method of a scenario as one process: ``def name(self, sys)``.

    Raises:
        TypeError: it is no such method.
    """
    if not inspect.isfunction(method):
        raise TypeError(f"@vfsim.task stands above a method, got {method!r}")
    _check_signature(method.__qualname__, method, ("self", "sys"))
    setattr(method, _MARK, True)
    return method


def _check_signature(title: str, method: Any, expected: tuple[str, ...]) -> None:
    given = tuple(inspect.signature(method).parameters)
    if len(given) != len(expected):
        raise TypeError(
            f"{title}() takes ({', '.join(expected)}), it is written with ({', '.join(given)})"
        )
    if inspect.iscoroutinefunction(method) or inspect.isgeneratorfunction(method):
        raise TypeError(f"{title}() must be a plain function: no async, no yield")


class Results(Sequence[Any]):
    """What the tasks returned, as they stand in the class; by name, too: ``results.renamer``."""

    def __init__(self, by_name: Mapping[str, Any]) -> None:
        self._by_name = dict(by_name)

    @overload
    def __getitem__(self, key: int | str) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> list[Any]: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, str):
            return self._by_name[key]
        return list(self._by_name.values())[key]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_by_name"][name]
        except KeyError:
            raise AttributeError(f"no task is called {name!r}") from None

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"({', '.join(f'{name}={value!r}' for name, value in self._by_name.items())})"


class Scenario:
    """Processes that run at once on a freshly mounted filesystem.

    Attributes:
        filesystem: the `FileSystemType` to mount on ``/``.
        device: sectors of its disk, if not what the filesystem says.
        options: mount options.
        faults: what may fail while the tasks run: ``"alloc,copy,io"`` (see `vfsim.sim.faults`).
        cpus: of the machine.
        left_out: the parts that this one lacks.
        judges: what is right is computed, for a smaller scenario too.
    """

    left_out: ClassVar[tuple[str, ...]] = ()
    judges: ClassVar[bool] = False
    filesystem: ClassVar[type[FileSystemType] | None] = None
    device: ClassVar[int | None] = None
    options: ClassVar[str] = ""
    faults: ClassVar[str] = ""
    cpus: ClassVar[int] = 4

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, expected in (("setup", ("self", "sys")), ("check", ("self", "sys", "results"))):
            if name in cls.__dict__:
                _check_signature(f"{cls.__qualname__}.{name}", cls.__dict__[name], expected)

    def setup(self, sys: Sys) -> None:
        """Runs alone, first, as root in ``/``."""

    def check(self, sys: Sys, results: Results) -> None:
        """Runs alone, last: assert what must be true."""

    prepared: Any = None

    @classmethod
    def prepare(cls, program: ScenarioProgram) -> Any:
        """Runs outside of any world, before the first run of a program: compute what all runs need.

        What it returns is ``self.prepared`` in every run.
        """
        return None

    @staticmethod
    def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
        """Sleeps.  Do a system call and return what it came to instead of raising."""
        try:
            return Outcome(0, call(*args, **kwargs))
        except OSError as error:
            if error.errno is None:
                raise
            return Outcome(error.errno)

    @classmethod
    def tasks(cls) -> list[str]:
        """The names of the tasks, in the order in which they were written, base classes first."""
        return [name for name in cls.all_tasks() if name not in cls.left_out]

    @classmethod
    def all_tasks(cls) -> list[str]:
        """The same with those that were left out."""
        names: dict[str, None] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if getattr(value, _MARK, False):
                    names[name] = None
        return [n for n in names if getattr(getattr(cls, n), _MARK, False)]

    @classmethod
    def parts(cls) -> list[str]:
        """What a smaller scenario may lack."""
        names = cls.tasks()
        return names if len(names) > 1 else []

    @classmethod
    def without(cls, part: str) -> type[Scenario]:
        """The same scenario without one of its parts.

        Raises:
            LookupError: it has no such part.
        """
        cls._must_have(part)
        return cls._like({"left_out": (*cls.left_out, part), "check": Scenario.check})

    @classmethod
    def _must_have(cls, part: str) -> None:
        """Raises: LookupError: a part is not there to be left out."""
        if part not in cls.parts():
            raise LookupError(f"the scenario {cls.__name__} has no part {part!r} to leave out")

    @classmethod
    def _like(cls, body: Mapping[str, Any]) -> type[Self]:
        """A scenario of the same name in which some attributes differ."""
        same = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        return type(cls.__name__, (cls,), {**same, "__doc__": cls.__doc__, **body})

    @classmethod
    def program(cls) -> ScenarioProgram:
        """The scenario as something to explore.

        Raises:
            TypeError: it names no filesystem, or has no tasks.
        """
        return ScenarioProgram(cls)


_LEFT_OUT = (Scenario.setup, Scenario.check)


class ScenarioProgram:
    """A scenario on a filesystem.

    Args:
        scenario: the class.
        filesystem, device, mount_options, faults: instead of what the class says.
        target: what brings it back in another process, if that is not the scenario itself.
        audit: look for shared state that the filesystem does not declare, too.

    Raises:
        TypeError: there is no filesystem, or no task.
        ValueError: there is no such fault.
    """

    def __init__(
        self,
        scenario: type[Scenario],
        filesystem: type[FileSystemType] | None = None,
        device: int | None = None,
        mount_options: str = "",
        target: str | None = None,
        faults: str = "",
        audit: bool = False,
    ) -> None:
        from vfsim.fs.operations import FileSystemType

        fstype = filesystem or scenario.filesystem
        if not (isinstance(fstype, type) and issubclass(fstype, FileSystemType)):
            raise TypeError(
                f"scenario {scenario.__qualname__} needs a filesystem: filesystem = YourFS, a "
                f"subclass of FileSystemType; it has {fstype!r}"
            )
        if not scenario.tasks():
            raise TypeError(
                f"scenario {scenario.__qualname__} has no task: mark methods with @vfsim.task"
            )
        self.scenario = scenario
        self.filesystem = fstype
        self.device = device if device is not None else scenario.device
        self.mount_options = mount_options or scenario.options
        self.name = scenario.__name__
        self.target = target_of(scenario) if target is None else target
        self.blamed = f"filesystem {fstype.__qualname__}"
        self.judges = scenario.judges
        self.prepared: tuple[Any] | None = None
        self.options: tuple[tuple[str, Option], ...] = ()
        if device is not None:
            self.options += (("device", device),)
        if mount_options:
            self.options += (("mount-options", mount_options),)
        self.faults = kinds(faults or scenario.faults)
        if faults:
            self.options += (("faults", ",".join(self.faults)),)
        self.access: Audit | None = None
        if audit:
            self.access = audit_of(fstype)
            self.options += (("audit", 1),)

    def world(self, trace: Trace | None, max_steps: int) -> ScenarioWorld:
        """A kernel that has just started."""
        if self.prepared is None:
            with uncounted():
                self.prepared = (self.scenario.prepare(self),)
        kernel = Kernel(self.scenario.cpus, trace=trace, max_steps=max_steps, faults=self.faults)
        return ScenarioWorld(kernel, self)

    def smaller(self) -> Iterator[ScenarioProgram]:
        """The programs that lack one part more."""
        for part in self.scenario.parts():
            yield self.without(part)

    def without(self, *parts: str) -> ScenarioProgram:
        """The same program without some parts of its scenario; its options say so, and its token.

        Raises:
            LookupError: there is no such part.
        """
        less = copy(self)
        for part in parts:
            less.scenario = less.scenario.without(part)
        left_out = " ".join(less.scenario.left_out)
        others = tuple(option for option in self.options if option[0] != LEFT_OUT)
        less.options = (*others, (LEFT_OUT, left_out)) if left_out else others
        less.prepared = None
        return less

    def mount(self, kernel: Kernel) -> None:
        """Put the filesystem on a kernel that has just started."""
        disk = RamDisk(sectors=self.device) if self.device is not None else None
        kernel.mount(self.filesystem, "/", device=disk, options=self.mount_options)


def as_small(program: Program, options: Mapping[str, Option]) -> Program:
    """A program without what the options of a token leave out.

    Raises:
        LookupError: there is no such part.
    """
    parts = str(options.get(LEFT_OUT) or "").split()
    without = getattr(program, "without", None)
    if not parts or without is None:
        return program
    less: Program = without(*parts)
    return less


class ScenarioWorld:
    """One kernel, one filesystem, one life of a scenario."""

    def __init__(self, kernel: Kernel, program: ScenarioProgram) -> None:
        self.kernel = kernel
        self.machine = kernel.machine
        self.program = program
        self.scenario = program.scenario()
        if program.prepared is not None:
            self.scenario.prepared = program.prepared[0]
        self.results: dict[str, Any] = {}

    def set_up(self) -> None:
        """Mount, let ``setup`` run, and start the tasks."""
        program = self.program
        program.mount(self.kernel)
        self._alone(self.scenario.setup)
        for name in program.scenario.all_tasks():
            if name in program.scenario.left_out:
                self.machine.skip_id()
            else:
                self.kernel.process(self._one, name, getattr(self.scenario, name), name=name)

    def _one(self, sys: Sys, name: str, method: Callable[[Sys], Any]) -> None:
        """Sleeps.  The life of one task.  What it makes of an injected fault says nothing."""
        try:
            self.results[name] = method(sys)
        except (OSError, AssertionError):
            if not self.machine.failed:
                raise

    def check(self) -> None:
        """Let ``check`` look at the results, if every task came to one, and nothing was made to
        fail.
        """
        names = self.program.scenario.tasks()
        if len(self.results) == len(names) and not self.machine.failed:
            self._alone(self.scenario.check, Results({n: self.results[n] for n in names}))

    def close(self) -> None:
        """Umount, and look for leaks."""
        self.kernel.close()

    def _alone(self, method: Callable[..., Any], *args: Any) -> None:
        """Run one method as a process of its own, if the scenario has it."""
        if self.machine.stopped or getattr(method, "__func__", None) in _LEFT_OUT:
            return
        self.kernel.process(method, *args, name=method.__name__)
        self.machine.run()
