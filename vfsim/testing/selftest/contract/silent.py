"""Clean runs, which must be silent: the counterparts of the mutants, and whole filesystems."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from vfsim.fs.operations import LOOKUP_RCU
from vfsim.testing.selftest import programs
from vfsim.testing.selftest.changes import in_rcu
from vfsim.testing.selftest.contract.grounds import (
    AtomicGround,
    LaundryGround,
    OldGround,
    PlainGround,
)
from vfsim.testing.selftest.mutants import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.case import Case
    from vfsim.testing.selftest.mutants import Program


def cases() -> Iterator[Case]:
    """All of them."""
    for name, program in _programs():
        yield clean(f"wholefs.{name}", program)
    for ground in (AtomicGround, PlainGround, OldGround):
        for program in (programs.create, programs.write_and_read, programs.truncate):
            yield clean(f"{ground.__name__}.{program.__name__}", program, ground)
    yield clean("LaundryGround.launder", programs.launder, LaundryGround)
    yield clean(
        "rcu-walk.d_revalidate", programs.stat_twice,
        around={"dentry_operations.d_revalidate": in_rcu(flags=LOOKUP_RCU)},
    )  # fmt: skip
    yield clean(
        "rcu-walk.get_link", programs.follow,
        around={"inode_operations.get_link": in_rcu(dentry=None)},
    )  # fmt: skip


def _programs() -> Iterator[tuple[str, Program]]:
    """Every program of one argument."""
    for name, value in vars(programs).items():
        if inspect.isfunction(value) and value.__module__ == programs.__name__:
            wanted = [
                p for p in inspect.signature(value).parameters.values() if p.default is p.empty
            ]
            if len(wanted) == 1 and name not in ("read", "launder"):
                yield name, value
