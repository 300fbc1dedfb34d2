"""The scenarios of the library: actors, what is there before them, and the oracle that judges.

`scenario` makes a class of them.  Its oracle is computed before the first run of a program
(`LibraryScenario.prepare`), once per filesystem and scenario, and kept.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from vfsim.explore.program import target_of
from vfsim.testing.scenario import Scenario, ScenarioProgram, task
from vfsim.testing.scenarios import oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vfsim.fs.syscalls import Sys
    from vfsim.testing.scenario import Results
    from vfsim.testing.scenarios.calls import Actor

    Thing = tuple[str, str, bytes | str]
    """What is there before: "file", "dir", "symlink" or "link"; the path; content, target or other
    name."""

_oracles: dict[tuple[object, ...], list[oracle.Outcome]] = {}


_smaller: dict[tuple[type, str], type[LibraryScenario]] = {}
"""Made once, so that each has one oracle."""


class LibraryScenario(Scenario):
    """A scenario whose right outcomes are computed.

    Attributes:
        needs: words of the capabilities without which it says nothing.
        actors: its tasks, in order.
        before: what `setup` makes.
        weak: where Linux promises less than an order of calls.
        prepared: the legal outcomes.
    """

    judges: ClassVar[bool] = True
    needs: ClassVar[str] = ""
    actors: ClassVar[tuple[Actor, ...]] = ()
    before: ClassVar[tuple[Thing, ...]] = ()
    weak: ClassVar[oracle.Weak] = oracle.Weak()

    @classmethod
    def prepare(cls, program: ScenarioProgram) -> list[oracle.Outcome]:
        """The legal outcomes on the program's filesystem, computed once."""
        key = (cls, program.filesystem, program.device, program.mount_options)
        legal = _oracles.get(key)
        if legal is None:

            def setup(sys: Sys) -> None:
                build(sys, cls.before)

            legal = _oracles[key] = oracle.legal_outcomes(
                program.mount, setup, cls.actors, cls.weak, cls._names()
            )
        return legal

    @classmethod
    def parts(cls) -> list[str]:
        """What a smaller scenario may lack: a task, one of its calls, something that is there
        before; with a ``~`` not the whole of it but some of its bytes.
        """
        actors = dict(zip(cls.tasks(), cls.actors, strict=True))
        counts = {name: len(actor.steps) for name, actor in actors.items()}
        return [
            *super().parts(),
            *(f"{name}.{i}" for name, n in counts.items() if n > 1 for i in range(n)),
            *(
                f"before.{i}"
                for i, thing in enumerate(cls.before)
                if not _needed(thing, cls.before)
            ),
            *(f"{name}~" for name, actor in actors.items() if actor.simpler is not None),
            *(f"before.{i}~" for i, thing in enumerate(cls.before) if len(_bytes(thing)) > 1),
        ]

    @classmethod
    def without(cls, part: str) -> type[LibraryScenario]:
        """The same scenario without one of its parts; what is right is computed anew."""
        cls._must_have(part)
        made = _smaller.get((cls, part))
        if made is None:
            made = _smaller[cls, part] = cls._like(_less(cls, part))
        return made

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        """Single names that may be there, for filesystems that cannot list."""
        return tuple("abcdepqrtx")

    @classmethod
    def program(cls) -> ScenarioProgram:
        """The scenario on the filesystem it was given; tokens name that filesystem's file."""
        program = ScenarioProgram(cls)
        program.target = target_of(program.filesystem)
        return program

    def setup(self, sys: Sys) -> None:
        build(sys, self.before)

    def check(self, sys: Sys, results: Results) -> None:
        outcome = oracle.Outcome(tuple(results), oracle.tree(sys, self._names()))
        legal: list[oracle.Outcome] = self.prepared
        if not oracle.is_legal(outcome, legal, self.actors, self.weak):
            raise AssertionError(_verdict(outcome, legal, self.actors))


def _verdict(
    outcome: oracle.Outcome, legal: Sequence[oracle.Outcome], actors: Sequence[Actor]
) -> str:
    known = [o.text(actors) for o in legal]
    more = f" (and {len(known) - 4} others)" if len(known) > 4 else ""
    return (
        f"no order of the calls gives {outcome.text(actors)}.  "
        f"Orders give: {' | '.join(known[:4])}{more}"
    )


def _less(cls: type[LibraryScenario], part: str) -> dict[str, Any]:
    """What is different in a scenario without one of its parts."""
    name, _, number = part.rstrip("~").partition(".")
    body: dict[str, Any] = {"left_out": (*cls.left_out, part)}
    if name == "before":
        at = int(number)
        less = [_shorter(cls.before[at])] if part.endswith("~") else []
        body["before"] = (*cls.before[:at], *less, *cls.before[at + 1 :])
    else:
        at = cls.tasks().index(name)
        actor = cls.actors[at]
        kept: list[Actor] = []
        if number:
            kept.append(actor.without(int(number)))
        elif part.endswith("~"):
            assert actor.simpler is not None
            kept.append(actor.simpler)
        else:
            body["weak"] = cls.weak.without(at)
        for smaller in kept:
            body[name] = task(_task_of(smaller))
        body["actors"] = (*cls.actors[:at], *kept, *cls.actors[at + 1 :])
    return body


def _needed(thing: Thing, things: Sequence[Thing]) -> bool:
    """Whether others cannot be made without a thing."""
    path = thing[1]
    return any(other[1].startswith(path + "/") or other[2] == path for other in things)


def _bytes(thing: Thing) -> bytes:
    """The content of a file, or nothing."""
    return thing[2] if isinstance(thing[2], bytes) else b""


def _shorter(thing: Thing) -> Thing:
    what, path, _ = thing
    content = _bytes(thing)
    return (what, path, content[: len(content) // 2])


def build(sys: Sys, before: Sequence[Thing]) -> None:
    """Sleeps.  Make what a scenario begins with."""
    for what, path, content in before:
        if what == "dir":
            sys.mkdir(path)
        elif what == "symlink":
            sys.symlink(str(content), path)
        elif what == "link":
            sys.link(str(content), path)
        else:
            assert isinstance(content, bytes)
            fd = sys.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            if content:
                sys.write(fd, content)
            sys.close(fd)


_THING_NEEDS = {"file": "create write", "dir": "mkdir", "symlink": "symlink", "link": "link"}


def file(path: str, content: bytes | None = None) -> Thing:
    """A file; its name is its content unless told otherwise."""
    return ("file", path, path[1:].encode() if content is None else content)


def folder(path: str) -> Thing:
    """A directory."""
    return ("dir", path, b"")


def scenario(
    *actors: Actor,
    before: Sequence[Thing] = (),
    note: str = "",
    weak: oracle.Weak | None = None,
) -> type[LibraryScenario]:
    """A scenario class; its name is that of its actors, with ``note`` behind it.

    Args:
        actors: one task each.
        before: what is there first.
        note: what tells it from others with the same actors.
        weak: where Linux promises less than an order of calls.
    """
    name = " ∥ ".join(actor.name for actor in actors) + (f", {note}" if note else "")
    needed = [word for actor in actors for word in actor.needs.split()]
    for what, path, _ in before:
        needed += _THING_NEEDS[what].split()
        if path.count("/") > 1:
            needed.append("nested")
    body: dict[str, Any] = {
        "__doc__": f"{name}: whole calls, in some order.",
        "__module__": __name__,
        "needs": " ".join(sorted(dict.fromkeys(needed))),
        "actors": actors,
        "before": tuple(before),
        "weak": weak or oracle.Weak(),
    }
    for actor in actors:
        word = actor.word
        count = sum(key == word or key.rstrip("0123456789") == word for key in body)
        body[word + (str(count + 1) if count else "")] = task(_task_of(actor))
    return type(name, (LibraryScenario,), body)


def _task_of(actor: Actor) -> Callable[..., object]:
    def run(self: LibraryScenario, sys: Sys) -> tuple[oracle.Answer, ...]:
        return oracle.act(sys, actor)

    run.__name__ = run.__qualname__ = actor.word
    return run
