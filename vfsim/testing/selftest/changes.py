"""What can be wrong about a call of a method: the small parts that mutants are put together from.

A *change* is a function on a `Call`: it does something wrong, and in between lets the call go on,
``call.go()``.  The same change serves both sides.  Put inside the method it is the filesystem's
mistake; put around the call it is the kernel's::

    without("dir.i_rwsem")     around: the caller does not hold the lock
                               inside: the method lets go of what its caller holds
    holding("dir.i_rwsem")     around: the caller holds what it must not
    keeping("dir.i_rwsem")     inside: the method returns with the lock
    dropping("dir.i_rwsem")    inside: the method lets go of what its caller may hold
    atomic()                   around: the caller holds a spinlock
    sleeping()                 inside: the method sleeps
    in_rcu()                   around: the caller is in an RCU read section
    outside_rcu()              around: the caller is in none; inside: the method leaves its caller's
    staying_in_rcu()           inside: the method returns in an RCU read section
    asserting_rcu()            inside: the method states that it is in one

Locks are named by path: ``dir.i_rwsem`` from an argument, ``@rename_lock`` the one of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks.calls import assert_held
from vfsim.fs.dentry import dcache
from vfsim.locks.rcu import rcu_read_lock, rcu_read_lock_held, rcu_read_unlock
from vfsim.locks.spinlock import SpinLock
from vfsim.sim.context import RCU
from vfsim.sim.errors import ECHILD
from vfsim.sim.scheduler import msleep
from vfsim.sim.state import K
from vfsim.testing.selftest.standing import nobodys

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[["Call"], Any]


class Call:
    """One call of a method, seen by a change.  Its arguments are attributes, by their names."""

    def __init__(self, clean: Callable[..., Any], args: dict[str, Any]) -> None:
        self.__dict__.update(args)
        self._clean = clean
        self._args = args

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the method has no parameter {name!r}")

    @nobodys
    def go(self, **other: Any) -> Any:
        """Let the call go on, with other arguments if wanted; returns what the method returns."""
        return self._clean(**{**self._args, **other})

    @nobodys
    def at(self, path: str) -> Any:
        """What a path leads to."""
        if path.startswith("@"):
            dcache()  # a world makes its global locks when they are first needed
            return K.machine.data[path[1:]]
        root, *steps = path.split(".")
        found = self._args[root]
        for step in steps:
            found = found[int(step)] if step.isdigit() else getattr(found, step)
        return found


# -- locks, whatever kind they are -----------------------------------------------------------------


@nobodys
def take(lock: Any, shared: bool = False) -> None:
    """Sleeps.  Take any lock."""
    if shared:
        lock.down_read()
    elif hasattr(lock, "write_lock"):
        lock.write_lock()
    else:
        lock.lock()


@nobodys
def drop(lock: Any) -> bool:
    """Never sleeps.  Let go of any lock; returns whether it was held shared."""
    shared = hasattr(lock, "up_read") and lock.owner is not K.cur
    if shared:
        lock.up_read()
    elif hasattr(lock, "write_unlock"):
        lock.write_unlock()
    else:
        lock.unlock()
    return shared


# -- changes ---------------------------------------------------------------------------------------


def without(path: str) -> Change:
    """The lock is not held meanwhile."""

    def change(call: Call) -> Any:
        lock = call.at(path)
        shared = drop(lock)
        try:
            return call.go()
        finally:
            take(lock, shared)

    return change


def shared_only(path: str) -> Change:
    """The lock is held shared where it should be exclusive."""

    def change(call: Call) -> Any:
        lock = call.at(path)
        lock.downgrade_write()
        try:
            return call.go()
        finally:
            drop(lock)
            take(lock)

    return change


def holding(path: str, shared: bool = False) -> Change:
    """The lock is held meanwhile."""

    def change(call: Call) -> Any:
        lock = call.at(path)
        take(lock, shared)
        try:
            return call.go()
        finally:
            drop(lock)

    return change


def keeping(path: str) -> Change:
    """The lock is taken, and stays so."""

    def change(call: Call) -> Any:
        result = call.go()
        take(call.at(path))
        return result

    return change


def losing(path: str) -> Change:
    """The lock is gone afterwards."""

    def change(call: Call) -> Any:
        result = call.go()
        drop(call.at(path))
        return result

    return change


def asserting(path: str) -> Change:
    """States that the lock is held."""

    def change(call: Call) -> Any:
        assert_held(call.at(path))
        return call.go()

    return change


def dropping(path: str) -> Change:
    """The lock is not held meanwhile, whether it was or not."""
    let_go = without(path)

    def change(call: Call) -> Any:
        return let_go(call) if call.at(path).owner is K.cur else call.go()

    return change


def sleeping() -> Change:
    """Sleeps for a while first."""

    def change(call: Call) -> Any:
        msleep(1)
        return call.go()

    return change


def atomic() -> Change:
    """A spinlock is held meanwhile."""

    def change(call: Call) -> Any:
        lock = SpinLock("mutants_own_lock")
        lock.lock()
        try:
            return call.go()
        finally:
            lock.unlock()

    return change


def in_rcu(**other: Any) -> Change:
    """In an RCU read section, with other arguments if wanted."""

    def change(call: Call) -> Any:
        rcu_read_lock()
        try:
            return call.go(**other)
        finally:
            rcu_read_unlock()

    return change


def outside_rcu() -> Change:
    """In no RCU read section."""

    def change(call: Call) -> Any:
        if not rcu_read_lock_held():
            return call.go()
        rcu_read_unlock()
        try:
            return call.go()
        finally:
            rcu_read_lock()

    return change


def staying_in_rcu() -> Change:
    """An RCU read section begins, and does not end."""

    def change(call: Call) -> Any:
        result = call.go()
        rcu_read_lock()
        return result

    return change


def asserting_rcu() -> Change:
    """States that it is in an RCU read section."""

    def change(call: Call) -> Any:
        assert_held(RCU)
        return call.go()

    return change


def saying_echild(when: Callable[[Call], bool]) -> Change:
    """ECHILD is raised, if the call is one of these."""

    def change(call: Call) -> Any:
        if when(call):
            raise ECHILD()
        return call.go()

    return change


def passing(**other: Any) -> Change:
    """With other arguments."""

    def change(call: Call) -> Any:
        return call.go(**other)

    return change
