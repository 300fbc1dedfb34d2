"""Programs in rounds: system calls of several processes, now one after the other, now all at once.

This is what a `vfsim.testing.machine.VfsMachine` writes and what is explored of it.  A program is a
list of rounds.  A round runs *in turn* (one call after the other, in the order in which they were
written) or *together* (each process makes its own calls, and who runs next is the strategy's).

Only the last round is explored.  Every schedule gets a fresh kernel, on which the rounds before
are run again, as they stand, under the default schedule: that is how state is carried on, and why
nothing can be left over from one schedule in the next.  Processes live through all rounds, with
their descriptors, directories and credentials.

The oracle is the model of `vfsim.testing.model`.  In turn, every outcome and the whole tree after
it must be the model's.  Together, the history and what is seen in the end must be linearizable, and
what explains it is the model that the next round begins with.  A round with faults is left to the
kernel's checks in those schedules in which something failed.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.block.disk import RamDisk
from vfsim.explore.execute import execute
from vfsim.explore.program import target_of
from vfsim.fs.kernel import Kernel
from vfsim.sim.choice import RoundRobin
from vfsim.testing.conformance import Capabilities, KernelGround, probe
from vfsim.testing.linearizability import Final, Operation, check_linearizable
from vfsim.testing.model import (
    Call,
    Model,
    Traits,
    agrees,
    descriptors,
    differences,
    from_snapshot,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vfsim.explore.token import Option
    from vfsim.fs.operations import FileSystemType
    from vfsim.fs.process import Process
    from vfsim.fs.syscalls import Sys
    from vfsim.sim.trace import Trace
    from vfsim.testing.model import Line, Snapshot
    from vfsim.testing.scenario import Outcome

_STATES = 20_000  # of a linearizability check, until it gives up


@attrs.frozen
class Round:
    """Calls that belong together.

    Attributes:
        calls: (process, call), in the order in which they were written.
        together: all processes at once.
        faults: what may fail meanwhile ("io-error", "short-copy").
    """

    calls: tuple[tuple[int, Call], ...]
    together: bool = False
    faults: tuple[str, ...] = ()

    def of(self, process: int) -> tuple[Call, ...]:
        """The calls of one process."""
        return tuple(call for who, call in self.calls if who == process)

    @property
    def processes(self) -> list[int]:
        """Who makes calls."""
        return sorted({who for who, _ in self.calls})

    def text(self) -> str:
        """The round for people: in turn a call a line, together a process a line."""
        failing = f" while {' and '.join(self.faults)} may happen" if self.faults else ""
        if not self.together:
            return "\n".join(
                [f"in turn{failing}:", *(f"  p{who}: {call}" for who, call in self.calls)]
            )
        lines = [f"  p{who}: {'; '.join(map(str, self.of(who)))}" for who in self.processes]
        return "\n".join([f"at once{failing}:", *lines])


class Setting:
    """What rounds run on: a filesystem, how it is mounted, and the author's own words about it.

    `VfsMachine` is one.  ``setup`` and ``check`` are called on a fresh object for every schedule.

    Attributes:
        filesystem, device, options, cpus: as those of a `Scenario`.
        processes: how many there are.
        oracle: whether results are held against the model.
        target: what brings the setting back in another process, if not its own file and name.
    """

    filesystem: type[FileSystemType] | None = None
    device: int | None = None
    options: str = ""
    cpus: int = 4
    processes: int = 3
    oracle: bool = True
    target: str | None = None

    def setup(self, sys: Sys) -> None:
        """Runs alone, first, as root in ``/``: make what is there from the beginning."""

    def check(self, sys: Sys) -> None:
        """Runs alone after every round of every schedule: assert what must be true."""


@cache
def capabilities(
    filesystem: type[FileSystemType], device: int | None, options: str
) -> Capabilities:
    """What a filesystem offers, found out once."""
    return probe(KernelGround(filesystem, device, options, checks=False))


def traits(caps: Capabilities) -> Traits:
    """What the model has to know of it.  RENAME_EXCHANGE is not asked of anybody."""
    return Traits(
        name_max=caps.name_max,
        exchange=False,
        fsync="fsync" in caps.has,
        fsync_dir="fsync_dir" in caps.has,
        nlink="dir_nlink" in caps.has,
        owners="owners" in caps.has,
        refuses=caps.refuses,
    )


class RoundsProgram:
    """Rounds on a setting, of which the last is explored.

    Args:
        setting: the class.
        rounds: at least one.
        before: the model before the last round; found out by running the others without it.
        target: what brings the setting back in another process.

    Attributes:
        after: the model after the last round of the latest run, if the oracle had no objection.

    Raises:
        TypeError: the setting has no filesystem.
    """

    judges = True  # the model computes what is right, for a smaller program too

    def __init__(
        self,
        setting: type[Setting],
        rounds: Sequence[Round],
        before: Model | None = None,
        target: str | None = None,
    ) -> None:
        if setting.filesystem is None:
            raise TypeError(
                f"{setting.__qualname__} needs a filesystem: filesystem = YourFS, a subclass of "
                "FileSystemType"
            )
        self.setting = setting
        self.filesystem = setting.filesystem
        self.rounds = tuple(rounds)
        self.name = setting.__name__
        named = setting.target if target is None else target
        self.target = target_of(setting) if named is None else named
        self.blamed = f"filesystem {setting.filesystem.__qualname__}"
        self.options: tuple[tuple[str, Option], ...] = (("program", encode(rounds)),)
        self.caps = capabilities(self.filesystem, setting.device, setting.options)
        self.before = before
        self.after: Model | None = None

    def world(self, trace: Trace | None, max_steps: int) -> RoundsWorld:
        """A kernel that has just started."""
        if self.before is None and self.setting.oracle and len(self.rounds) > 1:
            earlier = RoundsProgram(self.setting, self.rounds[:-1], None, "")
            execute(earlier, RoundRobin())
            self.before = earlier.after
        return RoundsWorld(Kernel(self.setting.cpus, trace=trace, max_steps=max_steps), self)

    def smaller(self) -> Iterator[RoundsProgram]:
        """The program without one of its earlier rounds, or without one call."""
        for at in range(len(self.rounds) - 1):
            yield self._with([*self.rounds[:at], *self.rounds[at + 1 :]])
        for at, round in enumerate(self.rounds):
            for i in range(len(round.calls)):
                fewer = attrs.evolve(round, calls=round.calls[:i] + round.calls[i + 1 :])
                yield self._with([*self.rounds[:at], fewer, *self.rounds[at + 1 :]])

    def _with(self, rounds: Sequence[Round]) -> RoundsProgram:
        return RoundsProgram(self.setting, rounds, None, self.target)

    def text(self) -> str:
        """The whole program for people."""
        return "\n".join(round.text() for round in self.rounds)


class RoundsWorld:
    """One kernel, one filesystem, all rounds."""

    def __init__(self, kernel: Kernel, program: RoundsProgram) -> None:
        self.kernel = kernel
        self.machine = kernel.machine
        self.program = program
        setting = program.setting
        self.setting = setting.__new__(setting)
        self.traits = traits(program.caps)
        self.names = () if "iterate" in program.caps.has else _names(program.rounds)
        self.processes: dict[int, Process] = {}
        self.history: list[Operation] = []
        self.now = 0
        self.model = program.before

    def set_up(self) -> None:
        """Mount, let ``setup`` run, run the rounds before, and begin the last."""
        setting = self.program.setting
        disk = RamDisk(sectors=setting.device) if setting.device is not None else None
        self.kernel.mount(self.program.filesystem, "/", device=disk, options=setting.options)
        if setting.setup is not Setting.setup:
            self._alone(self.setting.setup)
        everybody = sorted({who for round in self.program.rounds for who in round.processes})
        self.processes = {who: self.kernel.login(f"p{who}") for who in everybody}
        *earlier, last = self.program.rounds
        if setting.oracle and not earlier:  # also if it is known: a replay must do the same
            found = self._look()
            self.model = self.model or Model(from_snapshot(found, self.traits))
        for round in earlier:
            self._replay(round)
        if last.together:
            self.machine.data["faults"] = last.faults
            self._begin(last)
        else:
            self._in_turn(last)

    def check(self) -> None:
        """The last round is over: is it explained, and has the author something to say?"""
        last = self.program.rounds[-1]
        failed = any(d.kind in last.faults for d in self.machine.deviations)
        self.machine.data["faults"] = ()
        if last.together and self.model is not None and not failed:
            self._explain()
        if self.program.setting.check is not Setting.check:
            self._alone(self.setting.check)
        self.program.after = self.model

    def close(self) -> None:
        """End the processes, umount, and look for leaks."""
        for process in self.processes.values():
            self.kernel.logout(process)
        self.kernel.close()

    # -- rounds ----------------------------------------------------------------------------------

    def _replay(self, round: Round) -> None:
        """A round that was explored before, under the default schedule."""
        if round.together:
            self._begin(round)
            self.machine.run()
        else:
            for who, call in round.calls:
                self._one(who, call)

    def _begin(self, round: Round) -> None:
        self.history = []
        for who in round.processes:
            self.kernel.resume(self.processes[who], self._live, who, round.of(who))

    def _live(self, sys: Sys, who: int, calls: Sequence[Call]) -> None:
        """Sleeps.  What one process does in a round."""
        for call in calls:
            invoked = self.now = self.now + 1
            outcome = call.make(sys)
            self.now += 1
            self.history.append(Operation(who, call, outcome, invoked, self.now))

    def _one(self, who: int, call: Call) -> Outcome:
        task = self.kernel.resume(self.processes[who], call.make)
        self.machine.run()
        return task.result  # type: ignore[no-any-return]

    def _in_turn(self, round: Round) -> None:
        """Each call alone, and each outcome and tree compared."""
        for place, (who, call) in enumerate(round.calls, 1):
            outcome = self._one(who, call)
            if self.machine.stopped:
                return
            if self.model is None:
                continue
            self.model = _copy(self.model)
            expected = self.model.run(call, who, outcome)
            which = f"call {place}, p{who}: {call} = {outcome}"
            assert agrees(call, expected, outcome, self.traits), f"{which}, should be {expected}"
            wrong = differences(self.model.snapshot(), self._look(), self.traits)
            assert not wrong, "\n".join(
                [f"after {which}, the tree is not what it should be", *wrong]
            )

    def _explain(self) -> None:
        """Find an order that explains the history; go on with the model it leads to."""
        seen: dict[int, dict[int, Line]] = {}
        for who, process in self.processes.items():
            open_ones = [fd for fd, file in enumerate(process.files.fds) if file is not None]
            if open_ones:
                seen[who] = self._alone_as(process, descriptors, open_ones)
        verdict = check_linearizable(
            self.history, self.model, Final(self._look(), seen), limit=_STATES
        )
        assert verdict, verdict.text()
        self.model = verdict.model

    # -- looking ---------------------------------------------------------------------------------

    def _look(self) -> Snapshot:
        found: Snapshot = self._alone(snapshot, self.names)
        return found

    def _alone(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run something as a process of its own, by itself."""
        task = self.kernel.process(fn, *args, name=fn.__name__)
        self.machine.run()
        return task.result

    def _alone_as(self, process: Process, fn: Callable[..., Any], *args: Any) -> Any:
        task = self.kernel.resume(process, fn, *args)
        self.machine.run()
        return task.result


def _copy(model: Model) -> Model:
    new = Model(model.tree)
    new.last_id = model.last_id
    return new


def _names(rounds: Sequence[Round]) -> tuple[str, ...]:
    """Every name that a program speaks of."""
    words: dict[str, None] = {}
    for round in rounds:
        for _, call in round.calls:
            for arg in call.args:
                if isinstance(arg, str):
                    words.update(dict.fromkeys(arg.split("/")))
    return tuple(word for word in words if word not in ("", ".", ".."))


# As text, for tokens.  ---------------------------------------------------------------------------


def encode(rounds: Sequence[Round]) -> str:
    """A program as JSON; bytes are (text, latin-1) in a list of their own."""
    return json.dumps(
        [
            [
                r.together,
                r.faults,
                [[who, c.name, [_plain(a) for a in c.args]] for who, c in r.calls],
            ]
            for r in rounds
        ],
        separators=(",", ":"),
    )


def _plain(arg: Any) -> Any:
    return [arg.decode("latin-1")] if isinstance(arg, bytes) else arg


def decode(text: str) -> list[Round]:
    """What `encode` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        return [
            Round(
                tuple(
                    (int(who), Call(str(name), tuple(_arg(a) for a in args)))
                    for who, name, args in calls
                ),
                bool(together),
                tuple(str(fault) for fault in faults),
            )
            for together, faults, calls in json.loads(text)
        ]
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"this is no program in rounds: {error}") from None


def _arg(value: Any) -> Any:
    return value[0].encode("latin-1") if isinstance(value, list) else value
