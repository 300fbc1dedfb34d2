"""What Linux answered: recorded once, kept in the package, the expectation everywhere else.

An *answer* is what each call of a case returned, and what changed in the tree (`stage.changes`).
Of a call: the errno's name; or a list of one thing, what it returned, in plain words (`plain`).

The file `recorded.json.xz` has every different answer once, and for each case the number of its
answer.  It is made by the tests of vfsim, on a tmpfs (``python -m tests.testing.record``), and says
which kernel was asked.
"""

from __future__ import annotations

import errno
import functools
import json
import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vfsim.testing.conformance.corpus.attributes import plain_value, word_of
from vfsim.testing.conformance.corpus.case import DIR, SYMLINK, WORLDS
from vfsim.testing.model import told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vfsim.testing.conformance.capabilities import Capabilities
    from vfsim.testing.conformance.corpus.case import Case
    from vfsim.testing.conformance.corpus.stage import Change, Stage
    from vfsim.testing.conformance.syscalls import SystemCalls
    from vfsim.testing.model import Call

RECORDED = Path(__file__).with_name("recorded.json.xz")
_O_LARGEFILE = 0o100000
_STATS = ("stat", "lstat", "fstat", "fstatat")
_LISTXATTR = "listxattr", "llistxattr", "flistxattr"
_GETXATTR = "getxattr", "lgetxattr", "fgetxattr"


class Answer(NamedTuple):
    """What came of a case."""

    said: list[Any]
    changed: dict[str, Change]

    def text(self, beside: Answer | None = None) -> str:
        """For people; of the tree only what is not as in the answer that it is put beside."""
        calls = "; ".join(said if isinstance(said, str) else _value(said) for said in self.said)
        if beside is None or not (self.changed or beside.changed):
            return f"{calls}{_tree(self.changed)}"
        return f"{calls}{_contrast(self.changed, beside.changed)}"


def _value(said: list[Any]) -> str:
    return "success" if said == [None] else f"success, {said[0]!r}"


def _tree(changed: Mapping[str, Change]) -> str:
    if not changed:
        return ", and nothing changes"
    parts = []
    for path, change in changed.items():
        words = "is gone" if change is None else " ".join(f"{k}={v!r}" for k, v in change.items())
        parts.append(f"{path} {words}")
    return ", and " + ", ".join(parts)


def _contrast(here: Mapping[str, Change], there: Mapping[str, Change]) -> str:
    """What is not as there: a case may change a dozen things, of which one is wrong."""
    parts = []
    for path in sorted({*here, *there}):
        change, other = here.get(path, {}), there.get(path, {})
        if change != other:
            parts.append(f"{path} {_words(change, other or {})}")
    return f", and {', '.join(parts)}" if parts else ""


def _words(change: Change, other: Mapping[str, Any]) -> str:
    if not change:
        return "is gone" if change is None else "unchanged"
    fields = [k for k in {**change, **other} if change.get(k) != other.get(k)]
    return " ".join(f"{k}={change[k]!r}" if k in change else f"{k} unchanged" for k in fields)


# Asking.  ----------------------------------------------------------------------------------------


def ask(sys: SystemCalls, call: Call) -> Any:
    """Sleeps.  Make a call; what it said."""
    try:
        value = getattr(sys, call.name)(*call.args)
    except OSError as error:
        if error.errno is None:
            raise
        return errno.errorcode[error.errno]
    return [plain(call, value)]


def plain(call: Call, value: Any) -> Any:
    """What a call returned, without what differs from one filesystem to the other."""
    name = call.name
    if name in _STATS:
        return list(told(value))
    if name in ("listdir", *_LISTXATTR):
        return sorted(value)
    if name in _GETXATTR:
        return plain_value(call.args[1], value)
    if name == "getdents":
        return sorted([entry[0], entry[2]] for entry in value)
    if name in ("statfs", "fstatfs"):
        return None
    if name == "fcntl" and call.args[1] == 3:  # F_GETFL
        return value & ~_O_LARGEFILE
    return value.decode("latin-1") if isinstance(value, bytes) else value


# Keeping.  ---------------------------------------------------------------------------------------


def save(answers: Mapping[str, Answer], kernel: str, path: Path = RECORDED) -> None:
    """Write what was recorded."""
    different: dict[str, int] = {}
    cases = {}
    for id, answer in answers.items():
        text = json.dumps(answer, separators=(",", ":"))
        cases[id] = different.setdefault(text, len(different))
    whole = {"kernel": kernel, "answers": [json.loads(text) for text in different], "cases": cases}
    data = json.dumps(whole, separators=(",", ":"), sort_keys=False).encode()
    path.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


@functools.cache
def recorded() -> dict[str, Answer]:
    """What Linux answered, by the id of the case."""
    whole = json.loads(lzma.decompress(RECORDED.read_bytes()))
    answers = [Answer(*answer) for answer in whole["answers"]]
    return {id: answers[number] for id, number in whole["cases"].items()}


# Comparing.  -------------------------------------------------------------------------------------


def visible(answer: Answer, case: Case, caps: Capabilities, stage: Stage) -> Answer:
    """The part of an answer that a filesystem with these capabilities can give.

    Args:
        stage: the tree before the case.
    """
    lines = stage.lines
    changed: dict[str, Change] = {}
    for path, change in answer.changed.items():
        if change is None:
            changed[path] = None
            continue
        what = change.get("kind") or (lines[path].kind if path in lines else "")
        seen = {
            word: _names_known(v, caps) if word == "xattrs" else v
            for word, v in change.items()
            if _kept(word, what, caps)
        }
        if not seen.get("xattrs", True):
            del seen["xattrs"]
        if seen:
            changed[path] = seen
    missing = {e.path.rpartition("/")[2] for e in WORLDS[case.world] if e.path not in lines}
    pairs = zip(case.calls, answer.said, strict=True)
    hidden = missing | stage.own
    return Answer([_seen(call, said, caps, hidden) for call, said in pairs], changed)


def _names_known(xattrs: dict[str, str | None], caps: Capabilities) -> dict[str, str | None]:
    return {name: value for name, value in xattrs.items() if word_of(name) in caps.has}


def _kept(word: str, what: str, caps: Capabilities) -> bool:
    """Whether the filesystem keeps this fact of such a thing."""
    has = caps.has
    if what == SYMLINK and word == "mode":
        return False
    if word == "nlink" and what == DIR:
        return "dir_nlink" in has
    if word in ("uid", "gid"):
        return "owners" in has
    if word in ("mtime", "ctime"):
        return ("dir_times" if what == DIR else "file_times") in has
    return True


def _seen(call: Call, said: Any, caps: Capabilities, hidden: set[str]) -> Any:
    """The part of what a call said; ``hidden`` are names that could not be made, and those that
    the filesystem brings with it.
    """
    if isinstance(said, str):
        return said
    if call.name == "listdir":
        return [[name for name in said[0] if name not in hidden]]
    if call.name in _LISTXATTR:
        return [[name for name in said[0] if word_of(name) in caps.has]]
    if call.name == "getdents":
        return [[entry for entry in said[0] if entry[0] not in hidden]]
    if call.name not in _STATS:
        return said
    what, mode, nlink, uid, gid, size = said[0]
    if what == DIR and (hidden or "dir_nlink" not in caps.has):
        nlink = 0
    if "owners" not in caps.has:
        uid = gid = 0
    return [[what, 0o777 if what == SYMLINK else mode, nlink, uid, gid, size]]
