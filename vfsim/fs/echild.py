"""ECHILD, the word between a method and a walk.

A method that would have to sleep in rcu-walk says ECHILD: come back with references.  So nobody
says it to a walk that has them, and the walk does come back: no system call answers ECHILD for a
path (rules P1, P2, E1).  Where one does, `answered` tells whose bug that is::

    a method said it, called with references         the method's
    a method said it in rcu-walk, or the walk did    the kernel's: nobody came back
    another method said it (a file's ``read``, say)  nobody's, it may mean what it likes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks.blame import KERNEL, is_kernel, short
from vfsim.checks.rules import Kind
from vfsim.sim.errors import Violation
from vfsim.sim.state import K
from vfsim.sim.trace import is_engine

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from vfsim.checks.site import Site

ASKED = {
    "dentry_operations.d_revalidate": "P1",
    "dentry_operations.d_manage": "P1",
    "inode_operations.permission": "P2",
    "inode_operations.get_link": "E1",
}
"""The methods that a walk calls in RCU mode, and the rule that lets them say ECHILD."""

_WRAPPER = "vfsim.checks.wrapper"


def answered(error: OSError) -> None:
    """Never sleeps.  A system call ends with ECHILD: report whose bug that is."""
    frame, line, call = _where_raised(error.__traceback__)
    where = f"{short(frame.f_code.co_filename)}:{line}"
    if is_kernel(frame):
        _report("P2", KERNEL, where, "a walk ended with ECHILD, and nobody came back")
        return
    site: Site | None = None if call is None else call.f_globals["site"]
    if call is None or site is None or site.method.id not in ASKED:
        return
    rule = ASKED[site.method.id]
    if any(clause.applies(call.f_locals) for clause in site.method.of(Kind.NEVER)):
        what = f"{site.title}() said ECHILD, and nobody came back with references"
        _report(rule, KERNEL, where, what, *site.quote(rule))
    else:
        what = f"{site.title}() said ECHILD to a walk that has references"
        _report(rule, site.blamed, where, what, *site.quote(rule))


def _report(rule: str, blamed: str, where: str, summary: str, *details: str) -> None:
    K.machine.violation(Violation(rule, "soft", blamed, where, summary, K.cur.name, details))


def _where_raised(tb: TracebackType | None) -> tuple[FrameType, int, FrameType | None]:
    """The frame that raised it, its line, and the wrapper of the method that it was called from."""
    assert tb is not None
    frame, line = tb.tb_frame, tb.tb_lineno
    call: FrameType | None = None
    within: FrameType | None = None
    while tb is not None:
        module = tb.tb_frame.f_globals.get("__name__", "")
        if module == _WRAPPER:
            within = tb.tb_frame
        elif not is_engine(module):
            frame, line, call = tb.tb_frame, tb.tb_lineno, within
        tb = tb.tb_next
    return frame, line, call
