"""What a call that was refused has done nonetheless: half-done is worse than undone.

`Witness` is a recorder that looks at everything before one call and after it, and ends the
assertion there.  It looks through the eyes of another process, root's, which makes ordinary system
calls; and at what the caller has open: sizes, positions, times, also of files without a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.fs.process import current_process
from vfsim.locks.completion import Completion
from vfsim.sim.scheduler import msleep
from vfsim.testing.conformance.syscalls import Answer, Recorder
from vfsim.testing.model import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vfsim.fs.kernel import Kernel
    from vfsim.fs.syscalls import Sys

    State = dict[str, Any]

_A_WHILE = 20  # ms after which an inode's times, if the call sets them, are other ones


class Enough(BaseException):
    """The call was made, and nothing else is wanted: no body that expects errors may catch this."""


class Witness(Recorder):
    """Looks at what one call does.

    Args:
        kernel: that the assertion runs on.
        number: of the call.

    Attributes:
        effects: what it changed, a line each; None: the call was never made.
    """

    def __init__(self, kernel: Kernel, number: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.number = number
        self.effects: list[str] | None = None

    def make(self, name: str, method: Callable[..., object], args: tuple[object, ...]) -> Answer:
        """Sleeps.  Make a call, and look at it if it is the one."""
        if len(self.answers) != self.number:
            return super().make(name, method, args)
        before = everything(self.kernel)
        msleep(_A_WHILE)
        super().make(name, method, args)
        self.effects = list(_differences(before, everything(self.kernel)))
        raise Enough


def everything(kernel: Kernel) -> State:
    """Sleeps.  The whole tree, and what the running process has open."""
    found: State = {}
    done = Completion("look")

    def look(sys: Sys) -> None:
        for path, (*line, content, first) in snapshot(sys).items():
            stat = sys.lstat(path)
            about = ("kind", "mode", "nlink", "uid", "gid", "size")
            found.update({f"{path}: {key}": value for key, value in zip(about, line, strict=True)})
            found[f"{path}: content"] = content
            found[f"{path}: the same as"] = first
            found[f"{path}: mtime"] = stat.st_mtime_ns
            found[f"{path}: ctime"] = stat.st_ctime_ns
        done.complete()

    kernel.process(look, name="look")
    done.wait()
    for fd, file in enumerate(current_process().files.fds):
        if file is not None:
            found[f"descriptor {fd}: position"] = file.f_pos
            found[f"descriptor {fd}: size"] = file.f_inode.i_size
    return found


def _differences(before: State, after: State) -> Iterator[str]:
    for what in dict.fromkeys((*before, *after)):
        was, now = before.get(what), after.get(what)
        if was != now:
            yield f"{what} was {_text(was)}, is {_text(now)}"


def _text(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 40 else text[:36] + "..." + text[-1]
