"""What Linux's lockdep lets code say about a lock: it begins its life, or must stay held.

* `init_lock` is ``spin_lock_init()``, ``mutex_init()`` ... of a lock that may have been used
  before.  If somebody holds it, that is a bug: whoever releases it later finds another lock.
* `pin_lock` says that a held lock must not be released, not even for a moment, until `unpin_lock`:
  for whoever depends on what was true when it was taken (``lockdep_pin_lock``).

That freed memory has no held lock in it is checked where memory is freed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.sim.context import LockPin, enter, held_entries, release
from vfsim.sim.state import K

if TYPE_CHECKING:
    from collections.abc import Callable


def init_lock(lock: Any, init: Callable[[Any], None] | None = None) -> None:
    """Never sleeps.  Initialise a lock anew; it is free afterwards.

    Args:
        init: how; as a lock that is made with its name alone, without it.
    """
    if lock.is_locked():
        K.machine.judge.misused(
            K.cur, lock, "held-reinit", f"initialises {lock.name} while it is held"
        )
    if init is None:
        lock.__init__(lock.name)
    else:
        init(lock)


def pin_lock(lock: Any) -> LockPin:
    """Never sleeps.  Forbid the release of a lock that the caller holds.

    Returns:
        The cookie for `unpin_lock`.
    """
    t = K.cur
    pin = LockPin(lock)
    if not any(entry is lock for entry, _ in held_entries(t)):
        K.machine.judge.not_held(t, lock)
    try:
        t.ctx = t.ctx.next[pin.key]
    except KeyError:
        t.ctx = enter(t.ctx, pin.key, pin)
    t.held = (pin, t.held)
    return pin


def unpin_lock(pin: LockPin) -> None:
    """Never sleeps.  Allow the release again."""
    release(K.cur, pin)
