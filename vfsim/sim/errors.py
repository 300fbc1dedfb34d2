"""Three kinds of error, kept apart.

* **Operating errors** are results: an ``OSError`` with its errno, raised.  ``raise ENOSPC()`` reads
  as in Linux.
* **Kernel bugs** are recorded as a `Violation` on the machine *before* anything is raised, so that
  no ``except Exception`` hides them.  `Machine.run` raises the first as a `KernelBug`.
* **Misuse of vfsim** is a ``TypeError`` or ``ValueError`` at the import or the call.

`Killed` ends the tasks of a world that is being buried; it is a ``BaseException`` and no task
should catch it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import attrs
from greenlet import GreenletExit

if TYPE_CHECKING:
    from collections.abc import Callable


class Killed(BaseException):
    """Unwinds a task of a dead world.  Never caught by simulated code."""


class WorldStopped(BaseException):
    """Leaves a clock callback after a hard bug was found inside it; seen by the engine only."""


PASSING = (Killed, WorldStopped, KeyboardInterrupt, GreenletExit)
"""What ends a task, a world or the program from outside, whatever code it meets there: nobody's
bug.  ``SystemExit`` is none of them: a search that ends by it would look like a clean one."""


class Misuse(TypeError):
    """vfsim itself was used wrongly inside a task (a sleep in a clock callback, say)."""


@attrs.define(frozen=True)
class Violation:
    """One broken rule: what, whose, where.

    Attributes:
        rule: the rule's name: ``TABLE.METHOD.COLUMN``, ``P34``, ``lockdep.circular``,
            ``leak.inode`` ...
        kind: ``soft`` (recorded, the run goes on), ``hard`` (the world stopped), ``oops`` (a
            filesystem raised something that is no OSError), ``wrong result``, ``no progress`` or
            ``leak``.  A ``warning`` (advice that was not followed) is never recorded as a bug.
        blamed: ``kernel``, ``filesystem CLASS.METHOD``, ``driver ...`` or ``test``.
        where: ``file:line`` of the offending frame, or "".
        summary: one sentence.
        task: the name of the task that ran, or "".
        details: further lines for the report, in order.
        about: what the signature goes by instead of the place, where one bug can show in several
            places.
        signature: what makes two violations the same one in a campaign.
    """

    rule: str
    kind: str
    blamed: str
    where: str
    summary: str
    task: str = ""
    details: tuple[str, ...] = ()
    about: str = ""

    @property
    def signature(self) -> tuple[str, str, str]:
        return (self.rule, self.blamed, self.about or self.where)


class KernelBug(Exception):
    """A rule was broken in a run.  ``violation`` is the first one; the message is its report.

    Attributes:
        violation: the first violation of the run.
    """

    def __init__(self, violation: Violation, report: str = "") -> None:
        super().__init__(report or f"{violation.summary} [{violation.rule}]")
        self.violation = violation


def oserror(code: int, what: str = "") -> OSError:
    """An OSError of that errno, with Linux's text and, if given, what it is about."""
    text = os.strerror(code)
    return OSError(code, f"{text}: {what}" if what else text)


def _helper(name: str) -> Callable[..., OSError]:
    code: int = getattr(errno, name)

    def make(what: str = "") -> OSError:
        return oserror(code, what)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"OSError({code}): {os.strerror(code)}.  ``raise {name}()``."
    return make


EPERM = _helper("EPERM")
ENOENT = _helper("ENOENT")
EIO = _helper("EIO")
ENXIO = _helper("ENXIO")
E2BIG = _helper("E2BIG")
EBADF = _helper("EBADF")
ECHILD = _helper("ECHILD")
EAGAIN = _helper("EAGAIN")
ENOMEM = _helper("ENOMEM")
EACCES = _helper("EACCES")
EFAULT = _helper("EFAULT")
EBUSY = _helper("EBUSY")
EEXIST = _helper("EEXIST")
EXDEV = _helper("EXDEV")
ENODEV = _helper("ENODEV")
ENOTDIR = _helper("ENOTDIR")
EISDIR = _helper("EISDIR")
EINVAL = _helper("EINVAL")
ENFILE = _helper("ENFILE")
EMFILE = _helper("EMFILE")
ENOTTY = _helper("ENOTTY")
ETXTBSY = _helper("ETXTBSY")
EFBIG = _helper("EFBIG")
ENOSPC = _helper("ENOSPC")
ESPIPE = _helper("ESPIPE")
EROFS = _helper("EROFS")
EMLINK = _helper("EMLINK")
EPIPE = _helper("EPIPE")
ERANGE = _helper("ERANGE")
EDEADLK = _helper("EDEADLK")
ENAMETOOLONG = _helper("ENAMETOOLONG")
ENOSYS = _helper("ENOSYS")
ENOTEMPTY = _helper("ENOTEMPTY")
ELOOP = _helper("ELOOP")
EREMOTE = _helper("EREMOTE")
ENODATA = _helper("ENODATA")
EOVERFLOW = _helper("EOVERFLOW")
EOPNOTSUPP = _helper("EOPNOTSUPP")
ESTALE = _helper("ESTALE")
EDQUOT = _helper("EDQUOT")
ETIMEDOUT = _helper("ETIMEDOUT")
EINTR = _helper("EINTR")
ENOTBLK = _helper("ENOTBLK")
EBADR = _helper("EBADR")
