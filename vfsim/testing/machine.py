"""`VfsMachine`: Hypothesis writes programs of system calls, vfsim runs them in many schedules.

In Hypothesis's own convention::

    class ToyMachine(VfsMachine):
        filesystem = ToyFS

    TestToy = ToyMachine.TestCase

Each rule writes one system call into the program of one of several processes.  One more, `run`,
lets what was written so far run: call by call, or all processes at once.  Then many schedules
are tried, and everything is checked in each: the kernel's rules, the results
(see `vfsim.testing.rounds`), leaks after umount, and the author's own ``check``.  Which calls are
written is drawn by Hypothesis; of the schedules it draws one number, a seed.  So it shrinks the
*program*, which is what it is good at, and vfsim shrinks the *schedule*.

Authors add to it by subclassing::

    class ToyMachine(VfsMachine):
        filesystem = ToyFS
        names = "a", "b"                                # fewer names meet more often

        def setup(self, sys):                           # is there from the beginning
            sys.mkdir("/a")

        @rule(process=some_process(), size=vst.sizes())
        def grow(self, process, size):
            self.call(process, "truncate", "/b", size)

        def check(self, sys):                           # after each round of each schedule
            assert "b" not in sys.listdir("/a")

and with `@invariant` methods, which look at ``self.model`` after each step.

Swarm testing (a random subset of the rules is switched off in each example) is Hypothesis's own and
always on.  Its explain phase traces every line of Python, which makes many schedules slow and tells
nothing about a race: it is left out of the default settings (`SETTINGS`).  A failure is found,
shrunk and reported outside of all tasks, and raised from the rule that let the program run.
"""

from __future__ import annotations

import sys as python
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.errors import InvalidArgument
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from vfsim.explore.execute import MAX_STEPS, Run, execute
from vfsim.explore.identity import engine, sources
from vfsim.explore.parallel import EngineError
from vfsim.explore.replay import replay
from vfsim.explore.shrink import shrink
from vfsim.explore.strategies.pos import POS
from vfsim.explore.strategies.replay import Replay
from vfsim.explore.token import Token
from vfsim.explore.watch import Watch
from vfsim.sim.choice import Deviation, RoundRobin
from vfsim.sim.trace import Trace
from vfsim.testing import strategies as vst
from vfsim.testing.model import Call, Model
from vfsim.testing.rounds import Round, RoundsProgram, Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from vfsim.sim.errors import Violation

SETTINGS = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
    report_multiple_bugs=False,
    stateful_step_count=12,
    suppress_health_check=list(HealthCheck),
)
"""How machines are run unless ``TestToy.settings`` says otherwise."""


_POINTS = 200  # at which a single preemption is tried


class MachineBug(AssertionError):
    """A machine found a bug; the text is the program, the report and how to replay it.

    Each signature has a subclass of its own, by which Hypothesis tells bugs apart.

    Attributes:
        program: what failed.  run: the failing run.  violation: what it found.
        report, token: of the shrunk run; "" before `last_word`.
        schedules: how many were run to find it.
    """

    def __init__(self, program: RoundsProgram, run: Run, report: str = "", token: str = "") -> None:
        self.program = program
        self.run = run
        self.violation = run.violations[0]
        self.report = report
        self.token = token
        self.schedules = 0
        super().__init__(self.violation.summary)

    def __str__(self) -> str:
        return f"\n{self.program.text()}\n\n{self.report or self.violation.summary}"

    def last_word(self) -> MachineBug:
        """The same with its schedule shrunk, the report, and a token.

        Raises:
            EngineError: it does not happen again.
        """
        return _reported(self)


_kinds: dict[tuple[str, str, str], type[MachineBug]] = {}


def _kind_of(violation: Violation) -> type[MachineBug]:
    """The exception class of a signature."""
    signature = violation.signature
    if signature not in _kinds:
        _kinds[signature] = type("MachineBug", (MachineBug,), {"__module__": __name__})
    return _kinds[signature]


# What rules draw from.  --------------------------------------------------------------------------


def some_process() -> SearchStrategy[int]:
    """One of the machine's processes, for rules."""
    return st.runner().flatmap(lambda machine: st.integers(0, machine.processes - 1))


def some_path() -> SearchStrategy[str]:
    """A path over the machine's names, or one that exists, for rules."""
    return st.runner().flatmap(lambda machine: machine.paths())


def _needs(*words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule for filesystems that have these methods, unless the machine wants only others."""

    def decorate(fn: Callable[..., None]) -> Callable[..., None]:
        name = fn.__name__
        return precondition(
            lambda machine: (
                machine.has.issuperset(words) and (not machine.only or name in machine.only)
            )
        )(fn)

    return decorate


class VfsMachine(Setting, RuleBasedStateMachine):
    """A machine that writes programs of system calls for one filesystem.

    Attributes:
        filesystem: the `FileSystemType`.
        device, options, cpus: its disk's sectors, mount options, the machine's CPUs.
        processes: how many there are; all begin as root in ``/``.
        names: what paths are made of.  edges: also rare and wrong paths.
        schedules: tried each time the processes run together; fewer where there are fewer points.
        width: calls that may wait until they are run together.
        only: the names of the rules to use, of those below; all of them without it.
        faults: what may fail if the rule `fault` says so: "io-error", "short-copy".
        oracle: whether results are held against the model.
        model: the model as it is now, or None.
    """

    names: ClassVar[tuple[str, ...]] = vst.NAMES
    edges: ClassVar[bool] = True
    schedules: ClassVar[int] = 50
    width: ClassVar[int] = 6
    only: ClassVar[tuple[str, ...]] = ()
    faults: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TestCase.settings = SETTINGS

    def __init__(self) -> None:
        super().__init__()
        empty = RoundsProgram(type(self), [Round(())])
        self.has = empty.caps.has
        self._paths = vst.paths(self.names, 2 if "nested" in self.has else 1, self.edges)
        self.rounds: list[Round] = []
        self.waiting: list[tuple[int, Call]] = []
        self.may_fail: tuple[str, ...] = ()
        self.seed = 0
        self.model: Model | None = None
        self._run(Round(()))

    def paths(self) -> SearchStrategy[str]:
        """Paths to draw from just now: any, or as likely one that exists in the model."""
        existing = sorted(self.model.snapshot())[1:] if self.model is not None else []
        return self._paths | st.sampled_from(existing) if existing else self._paths

    # -- writing ---------------------------------------------------------------------------------

    def call(self, process: int, name: str, *args: Any) -> None:
        """Write a system call into a process's program; for rules.

        When `width` calls wait, they are run together.
        """
        self.waiting.append((process, Call(name, args)))
        if len(self.waiting) >= self.width:
            self._run_waiting(together=True)

    def _run_waiting(self, together: bool) -> None:
        calls, self.waiting = tuple(self.waiting), []
        faults, self.may_fail = self.may_fail, ()
        round = Round(calls, together, faults if together else ())
        self._run(attrs.evolve(round, together=together and len(round.processes) > 1))

    def teardown(self) -> None:
        """What still waits is run, unless the example is over because of something else."""
        if self.waiting and python.exc_info()[0] is None:
            self._run_waiting(together=True)

    # -- running ---------------------------------------------------------------------------------

    def _run(self, round: Round) -> None:
        """Run a round in all its schedules; the state goes on from the default one.

        Raises:
            MachineBug: in one of them, something was wrong.
        """
        __tracebackhide__ = True
        program = RoundsProgram(type(self), [*self.rounds, round], self.model)
        bug, self.model = _KNOWN.judge(program, self.seed, self.schedules)
        if bug is not None:
            if _is_final():
                bug = bug.last_word()
                bug.schedules = _KNOWN.schedules
                _KNOWN.forget()
            raise bug
        if round.calls:
            self.rounds.append(round)

    # -- rules -----------------------------------------------------------------------------------

    @initialize(seed=st.integers(0, 1 << 16))
    def seed_schedules(self, seed: int) -> None:
        """All that Hypothesis draws of the schedules."""
        self.seed = seed

    @precondition(lambda machine: machine.waiting)
    @rule(together=st.sampled_from((True, False)))
    def run(self, together: bool) -> None:
        """Let what was written so far run: all processes at once, or the calls one by one."""
        self._run_waiting(together)

    @precondition(lambda machine: machine.faults)
    @rule(kind=st.runner().flatmap(lambda machine: st.sampled_from(machine.faults)))
    def fault(self, kind: str) -> None:
        """The next time the processes run together, this may fail."""
        self.may_fail = tuple(sorted({*self.may_fail, kind}))

    # Rules are chosen evenly, so what is less likely to matter shares one.

    @_needs()
    @rule(process=some_process(), path=some_path(), how=st.sampled_from(("stat", "lstat")))
    def stat(self, process: int, path: str, how: str) -> None:
        self.call(process, how, path)

    @_needs("create")
    @rule(process=some_process(), path=some_path(), flags=vst.open_flags(), mode=vst.modes())
    def open(self, process: int, path: str, flags: int, mode: int) -> None:
        self.call(process, "open", path, flags, mode)

    @_needs("create")
    @rule(process=some_process(), fd=vst.descriptors())
    def close(self, process: int, fd: int) -> None:
        self.call(process, "close", fd)

    @_needs("create", "llseek")
    @rule(
        process=some_process(),
        how=st.sampled_from(("fstat", "dup", "lseek", "fsync", "sync")),
        fd=vst.descriptors(),
        offset=vst.offsets(),
        whence=vst.whence(),
    )
    def descriptor(self, process: int, how: str, fd: int, offset: int, whence: int) -> None:
        """What changes no file, or only what a descriptor is."""
        args = {"lseek": (fd, offset, whence), "sync": ()}
        self.call(process, how, *args.get(how, (fd,)))

    @_needs("read")
    @rule(
        process=some_process(),
        fd=vst.descriptors(),
        count=vst.sizes(),
        offset=st.none() | vst.offsets(),
    )
    def read(self, process: int, fd: int, count: int, offset: int | None) -> None:
        """At the file position, or at an offset."""
        if offset is None:
            self.call(process, "read", fd, count)
        else:
            self.call(process, "pread", fd, count, offset)

    @_needs("write")
    @rule(
        process=some_process(),
        fd=vst.descriptors(),
        data=vst.data(),
        offset=st.none() | vst.offsets(),
    )
    def write(self, process: int, fd: int, data: bytes, offset: int | None) -> None:
        """At the file position, or at an offset."""
        if offset is None:
            self.call(process, "write", fd, data)
        else:
            self.call(process, "pwrite", fd, data, offset)

    @_needs("write")
    @rule(process=some_process(), place=some_path() | vst.descriptors(), length=vst.offsets())
    def truncate(self, process: int, place: str | int, length: int) -> None:
        """By path, or by descriptor."""
        name = "truncate" if isinstance(place, str) else "ftruncate"
        self.call(process, name, place, length)

    @_needs("mkdir")
    @rule(process=some_process(), path=some_path(), mode=vst.modes())
    def mkdir(self, process: int, path: str, mode: int) -> None:
        self.call(process, "mkdir", path, mode)

    @_needs("rmdir")
    @rule(process=some_process(), path=some_path())
    def rmdir(self, process: int, path: str) -> None:
        self.call(process, "rmdir", path)

    @_needs("unlink")
    @rule(process=some_process(), path=some_path())
    def unlink(self, process: int, path: str) -> None:
        self.call(process, "unlink", path)

    @_needs("rename")
    @rule(
        process=some_process(),
        old=some_path(),
        new=some_path(),
        flags=vst.rename_flags(exchange=False),
    )
    def rename(self, process: int, old: str, new: str, flags: int) -> None:
        if flags:
            self.call(process, "renameat2", old, new, flags)
        else:
            self.call(process, "rename", old, new)

    @_needs("link")
    @rule(process=some_process(), old=some_path(), new=some_path())
    def link(self, process: int, old: str, new: str) -> None:
        self.call(process, "link", old, new)

    @_needs("symlink")
    @rule(process=some_process(), body=some_path().filter(bool), path=some_path())
    def symlink(self, process: int, body: str, path: str) -> None:
        self.call(process, "symlink", body, path)

    @_needs("symlink")
    @rule(process=some_process(), path=some_path())
    def readlink(self, process: int, path: str) -> None:
        self.call(process, "readlink", path)

    @_needs("iterate")
    @rule(process=some_process(), path=some_path())
    def listdir(self, process: int, path: str) -> None:
        self.call(process, "listdir", path)

    @_needs()
    @rule(process=some_process(), path=some_path())
    def chdir(self, process: int, path: str) -> None:
        self.call(process, "chdir", path)

    @_needs()
    @rule(process=some_process(), place=some_path() | vst.descriptors(), mode=vst.modes())
    def chmod(self, process: int, place: str | int, mode: int) -> None:
        """By path, or by descriptor."""
        self.call(process, "chmod" if isinstance(place, str) else "fchmod", place, mode)

    @_needs("owners")
    @rule(process=some_process(), path=some_path(), uid=vst.owners(), gid=vst.owners())
    def chown(self, process: int, path: str, uid: int, gid: int) -> None:
        self.call(process, "chown", path, uid, gid)

    @_needs("owners")
    @rule(
        process=some_process(),
        how=st.sampled_from(("setuid", "setgid", "umask")),
        id=vst.users(),
        mask=vst.umasks(),
    )
    def become(self, process: int, how: str, id: int, mask: int) -> None:
        """Other credentials, or another umask."""
        self.call(process, how, mask if how == "umask" else id)


# What comes of a program.  -----------------------------------------------------------------------


class _Known:
    """What came of the programs of one Hypothesis run, so that each is explored once.

    Hypothesis comes to the same program in many ways.  Once one failed, those with more calls need
    no schedule but the default one: they could not be what is shown in the end.  A program is
    judged the same whenever it comes again, so none of this can make an example flaky.
    """

    ROOM = 2000

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The run is over."""
        self.tried: dict[object, tuple[MachineBug | None, Model | None]] = {}
        self.smallest: dict[type, int] = {}
        self.schedules = 0

    def judge(
        self, program: RoundsProgram, seed: int, schedules: int
    ) -> tuple[MachineBug | None, Model | None]:
        """The bug in a program, or the model that its next round begins with."""
        machine = program.setting
        key = (machine, program.options, seed, schedules)
        if key not in self.tried:
            if len(self.tried) >= self.ROOM and not self.smallest:
                self.tried.clear()
            calls = sum(len(round.calls) for round in program.rounds)
            alone = not program.rounds[-1].together or calls > self.smallest.get(machine, calls)
            found = self.tried[key] = self._explore(program, seed, 1 if alone else schedules)
            if found[0] is not None:
                self.smallest[machine] = min(calls, self.smallest.get(machine, calls))
        return self.tried[key]

    def _explore(
        self, program: RoundsProgram, seed: int, schedules: int
    ) -> tuple[MachineBug | None, Model | None]:
        """The default schedule and some others: the first bug, and the model after the default one.

        There are at most twice as many of the others as the default one passed scheduling points.
        """
        after: Model | None = None
        points = 0
        with Watch() as watch:
            for number in range(schedules):
                if number > 2 * points:
                    break
                watch.begin()
                self.schedules += 1
                run = execute(program, POS(seed << 32 | number) if number else RoundRobin())
                if watch.interrupted:
                    raise KeyboardInterrupt
                if run.violations:
                    return _kind_of(run.violations[0])(program, run), None
                if not number:
                    after, points = program.after, run.steps
        return None, after


_KNOWN = _Known()


def fuzz(machine: type[VfsMachine], examples: int, seed: int) -> tuple[MachineBug | None, int]:
    """Run a machine outside of a test.

    Returns:
        The bug, if there is one, and how many schedules were run.
    """
    _KNOWN.forget()
    chosen = settings(SETTINGS, max_examples=examples, derandomize=False, database=None)
    try:
        run_state_machine_as_test(with_seed(seed)(machine), settings=chosen)
    except MachineBug as bug:
        return bug, bug.schedules
    return None, _KNOWN.schedules


def _is_final() -> bool:
    """Whether Hypothesis runs the example that it is going to show."""
    try:
        return bool(current_build_context().is_final)
    except InvalidArgument:
        return True  # nobody draws: a machine by hand


def _reported(bug: MachineBug) -> MachineBug:
    program, violation = bug.program, bug.violation
    with Watch() as watch:
        shrunk = shrink(program, bug.run, violation.signature, watch=watch)
    assert isinstance(shrunk.program, RoundsProgram)
    program = shrunk.program
    run = _one_preemption(program, shrunk.run, violation.signature) or shrunk.run
    trace = Trace(stacks=False)
    strategy = Replay(run.deviations)
    again = execute(program, strategy, trace)
    if all(v.signature != violation.signature for v in again.violations):
        raise EngineError(f"{violation.summary}: this does not happen again in the same schedule")
    token = Token(
        target=program.target,
        scenario=program.name,
        options=program.options,
        rule=violation.rule,
        blamed=violation.blamed,
        sources=sources(program.target),
        engine=engine(),
        fingerprint=again.digest[:8],
        max_steps=MAX_STEPS,
        deviations=tuple(run.deviations),
        expected=tuple(strategy.met),
    )
    found = replay(token, program)
    report = "\n\n".join(
        f.report for f in found.failures if f.violation.signature == violation.signature
    )
    return type(bug)(program, found.run, report, str(token))


def _one_preemption(
    program: RoundsProgram, run: Run, signature: tuple[str, str, str]
) -> Run | None:
    """Instead of several deviations: one task gives way to one other, at each point in turn.

    A subset of a schedule may need two where a single one, a point later, would do.
    """
    if len(run.deviations) < 2:
        return None
    names = [name for d in run.deviations for name in (d.task, d.value) if isinstance(name, str)]
    pairs = list(permutations(dict.fromkeys(filter(None, names)), 2))
    for number in range(1, min(run.steps, _POINTS) + 1):
        for one, other in pairs:
            again = execute(program, Replay([Deviation(one, "p", number, 0, other)]))
            if any(v.signature == signature for v in again.violations):
                return again
    return None


__all__ = ["SETTINGS", "MachineBug", "VfsMachine", "fuzz", "some_path", "some_process"]
