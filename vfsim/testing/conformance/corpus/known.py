"""Where the simulated kernel may differ from the Linux that was asked, each with its reason.

Two tables.  `VERSIONS` is for good: the kernel that was asked is newer than v4.10, which vfsim
follows, or was set up in its own way.  `UNFINISHED` is not: what stands there is wrong, and known;
the shorter it is the better.

A row is a pattern that the whole id must match (a regular expression), what Linux said in the last
call, and what is right here instead:

* an errno: the last call says that, and changes nothing;
* `UNKNOWN`: Linux was not asked this question, so nobody is;
* `TIMES`: mtime and ctime may be as they were.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vfsim.testing.conformance.corpus.answers import Answer

UNKNOWN = "unknown"
TIMES = "times"


class Known(NamedTuple):
    """One difference.

    Attributes:
        ids: of the cases.  asked: errnos of the last call, or "" for whatever it said.
        right: what is right here.  reason: why.
    """

    ids: str
    asked: str
    right: str
    reason: str

    def concerns(self, id: str, answer: Answer) -> bool:
        """Whether it is about this case and what Linux said to it."""
        if self.asked and answer.said[-1] not in self.asked.split():
            return False
        return re.fullmatch(self.ids, id) is not None


VERSIONS = (
    Known(
        r"path\.opennew\.(.*\+(dot|dot-slash|dotdot)|top|here|above)|at\.cwd-.*\.opennew\.\.+|"
        r"dfd\.openat-new\..*\.here",
        "EEXIST", "EISDIR",
        "O_CREAT of a directory by no name of its own: O_EXCL is looked at first since v5.6",
    ),
    Known(
        r"open\..*\.creat-directory\..*", "EINVAL", UNKNOWN,
        "O_CREAT with O_DIRECTORY is refused since v6.3",
    ),
    Known(
        r"rights-(owner|group|extra|other)\..*-whiteout", "", "EPERM",
        "anybody may make a whiteout since v5.8",
    ),
    Known(
        r"rights-(owner|group|extra|other)\..*\.link-(in|out|from)", "EPERM", UNKNOWN,
        "fs.protected_hardlinks is set where Linux was asked",
    ),
    Known(
        r"rights-other\.file-2644\.chown-same-same", "EPERM", UNKNOWN,
        "set-group-ID without group execution (mandatory locking) is a privilege since v6.2",
    ),
    Known(
        r"rights-other\.dir-2777\.(create-s|mkfifo|mknod)", "", UNKNOWN,
        "a file gets no set-group-ID for a group that its maker is not in, since v4.18",
    ),
    Known(
        r"xattr\.(name\.(set|get|remove)|flag\.set|value)\.(absent|dangling)\..*",
        "EINVAL ERANGE E2BIG", "ENOENT",
        "flags, name and size are looked at before the path since v6.13",
    ),
    Known(
        r"xattr\.fd\.(path.*|unopened)\..*", "ERANGE", "EBADF",
        "the name is looked at before the descriptor since v6.13",
    ),
    Known(
        r"acl-set\.\w+(-\w+)?\.(access|default)\.l?nothing.*", "", "EINVAL",
        "an empty value is no list and removes it since v6.2",
    ),
    Known(
        r"at-rights\.(owner|group|extra|other)\..*flink.*", "", "ENOENT",
        "whoever opened a file may give it a name since v6.10",
    ),
    Known(
        r"(path|value|(rights|xattr)-\w+\..*)\.(then-)?truncate(-\w+)?(\..*)?", "", TIMES,
        "truncate(2) leaves the times to the filesystem; v4.10's ramfs does not set them",
    ),
    Known(
        r"xattr\.(walk|name|flag|value|fd)\..*|xattr\.after\.link|"
        r"xattr-\w+\..*\.(then-)?(l?set|l?remove|mark).*|acl-\w+\..*\.mark", "", TIMES,
        "tmpfs sets ctime with an attribute since v6.1; v4.10 leaves it to the filesystem",
    ),
)  # fmt: skip

UNFINISHED: tuple[Known, ...] = ()


def expected(id: str, answer: Answer) -> list[Answer]:
    """The answers that are right here, if Linux gave this one; none if nobody knows."""
    for known in (*VERSIONS, *UNFINISHED):
        if known.concerns(id, answer):
            return _instead(known, answer)
    return [answer]


def _instead(known: Known, answer: Answer) -> list[Answer]:
    if known.right == UNKNOWN:
        return []
    if known.right == TIMES:
        return [answer, Answer(answer.said, _without_times(answer))]
    refused = isinstance(answer.said[-1], str)  # what changed, earlier calls did
    return [Answer([*answer.said[:-1], known.right], answer.changed if refused else {})]


def _without_times(answer: Answer) -> dict[str, dict[str, object] | None]:
    changed: dict[str, dict[str, object] | None] = {}
    for path, change in answer.changed.items():
        rest = change and {k: v for k, v in change.items() if k not in ("mtime", "ctime")}
        if rest != {}:
            changed[path] = rest
    return changed
