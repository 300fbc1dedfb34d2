"""Tokens: a run as one line of text that brings it back.

``vf1.`` and then base64url (without padding) of four bytes of checksum and the compressed body.
The body is data
only: numbers as variable-length integers, texts as length and UTF-8, the deviations as a table of
names and small numbers.  Nothing in it is ever executed.

A token says everything that a replay needs but the sources: the target and its options, the
scenario, the deviations, and the seed they came from.  Three more things make the replay honest:
the kind of operation met at each deviation, so that a run that goes astray says where; digests of
the sources, so that a changed filesystem is told from a broken engine; and the fingerprint of the
trace.

`encode` and `decode` are inverse.  `decode` raises `BadToken`, one clear sentence, for whatever is
not a token of this version.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import NoReturn

import attrs

from vfsim.sim.choice import Deviation

VERSION = 1
PREFIX = f"vf{VERSION}."
MAX_TEXT = 1 << 20
"""No token is longer."""

_MAX_BODY = 1 << 22
_CHECKSUM = 4

Option = str | int | bool | None

NO_RACES: tuple[str, Option] = ("races", False)
"""The option of a token whose run did not look for races."""


class BadToken(ValueError):
    """This text is no token that can be replayed; the message is one sentence for people."""


@attrs.frozen
class Token:
    """What a token says.

    Attributes:
        target: ``file.py:Name`` or ``module:Name``, or "" if it can only be replayed by hand.
        scenario: what was run of the target.
        options: how the target is set up, by name; and `NO_RACES`.
        seed, schedule: where the run was found: the exploration's seed and the number of the
            schedule.
        rule, blamed: the violation that was found, or "" and "".
        sources, engine: digests of the target's sources and of vfsim's.
        fingerprint: of the trace.
        max_steps: the limit of scheduling points.
        deviations: the run.
        expected: the kind of operation met at each deviation.
    """

    target: str
    scenario: str
    options: tuple[tuple[str, Option], ...] = ()
    seed: int = 0
    schedule: int = 0
    rule: str = ""
    blamed: str = ""
    sources: str = ""
    engine: str = ""
    fingerprint: str = ""
    max_steps: int = 0
    deviations: tuple[Deviation, ...] = ()
    expected: tuple[str, ...] = ()

    @property
    def races(self) -> bool:
        """Whether its run looked for races."""
        return NO_RACES not in self.options

    def __str__(self) -> str:
        return encode(self)


_TEXTS = ("target", "scenario", "rule", "blamed", "sources", "engine", "fingerprint")
_NUMBERS = ("seed", "schedule", "max_steps")


def encode(token: Token) -> str:
    """The token as text."""
    out = _Writer()
    for name in _TEXTS:
        out.text(getattr(token, name))
    for name in _NUMBERS:
        out.number(getattr(token, name))
    out.number(len(token.options))
    for key, value in token.options:
        out.text(key)
        out.option(value)
    _write_run(out, token)
    body = zlib.compress(bytes(out.data), 9)
    sealed = zlib.crc32(body).to_bytes(_CHECKSUM, "big") + body
    return PREFIX + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")


def decode(text: str) -> Token:
    """What the text says.

    Raises:
        BadToken: it is no token, one of another version, or damaged.
    """
    text = text.strip()
    version = re.match(r"vf([0-9]{1,9})\.", text)
    if version is None:
        raise BadToken(f"this is not a vfsim token (they begin with {PREFIX!r}): {_short(text)}")
    if int(version[1]) != VERSION:
        raise BadToken(
            f"this token is of version {int(version[1])}, and this vfsim reads version {VERSION}: "
            "replay it with the vfsim that made it"
        )
    read = _Reader(_open(text[len(version[0]) :]))
    try:
        return _read(read)
    except (IndexError, ValueError, OverflowError):
        _damaged()


def _short(text: str) -> str:
    printable = text.encode("unicode_escape").decode("ascii")
    return repr(printable if len(printable) <= 40 else printable[:37] + "...")


def _damaged() -> NoReturn:
    raise BadToken(
        "this token is damaged or cut off: its checksum does not fit, copy it again as a whole"
    ) from None


def _open(text: str) -> bytes:
    """The body, after its seal was checked."""
    if len(text) > MAX_TEXT or not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        _damaged()
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        _damaged()
    checksum, body = sealed[:_CHECKSUM], sealed[_CHECKSUM:]
    if zlib.crc32(body).to_bytes(_CHECKSUM, "big") != checksum:
        _damaged()
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(body, _MAX_BODY)
    except zlib.error:
        _damaged()
    if not unpack.eof or unpack.unused_data:
        _damaged()
    return data


# -- the body --------------------------------------------------------------------------------------


def _write_run(out: _Writer, token: Token) -> None:
    """The deviations, as indices into a table of the names they use."""
    names: dict[str, int] = {}

    def name(text: str) -> int:
        return names.setdefault(text, len(names))

    rows = []
    for i, d in enumerate(token.deviations):
        chosen = name(d.value) << 1 | 1 if isinstance(d.value, str) else d.value << 1
        kind = name(token.expected[i]) + 1 if i < len(token.expected) else 0
        rows.append((name(d.task), name(d.kind), d.number, d.nth, chosen, kind))
    out.number(len(names))
    for text in names:
        out.text(text)
    out.number(len(rows))
    for row in rows:
        for number in row:
            out.number(number)


def _read(read: _Reader) -> Token:
    fields: dict[str, str | int] = {n: read.text() for n in _TEXTS}
    fields.update({n: read.number() for n in _NUMBERS})
    options = tuple((read.text(), read.option()) for _ in range(read.count()))
    names = [read.text() for _ in range(read.count())]
    deviations = []
    expected = []
    for _ in range(read.count()):
        task, kind, number, nth, chosen, met = (read.number() for _ in range(6))
        value = names[chosen >> 1] if chosen & 1 else chosen >> 1
        deviations.append(Deviation(names[task], names[kind], number, nth, value))
        if met:
            expected.append(names[met - 1])
    read.end()
    return Token(
        **fields,  # type: ignore[arg-type]
        options=options,
        deviations=tuple(deviations),
        expected=tuple(expected),
    )


class _Writer:
    """Appends numbers and texts."""

    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"a token holds no negative numbers, got {value}")
        while value > 127:
            self.data.append(value & 127 | 128)
            value >>= 7
        self.data.append(value)

    def text(self, value: str) -> None:
        raw = value.encode("utf-8", "surrogatepass")
        self.number(len(raw))
        self.data += raw

    def option(self, value: Option) -> None:
        """None, False, True, a number or a text, told apart by one number before it."""
        if value is None or isinstance(value, bool):
            self.number((None, False, True).index(value))
        elif isinstance(value, int):
            self.number(3)
            self.number(value)
        else:
            self.number(4)
            self.text(value)


class _Reader:
    """Reads them back; raises IndexError or ValueError at anything odd."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 700:
                raise ValueError("a number without end")

    def count(self) -> int:
        """How many follow: never more than there are bytes left."""
        value = self.number()
        if value > len(self.data) - self.at:
            raise ValueError("more things than bytes")
        return value

    def text(self) -> str:
        size = self.count()
        raw = self.data[self.at : self.at + size]
        self.at += size
        return raw.decode("utf-8", "surrogatepass")

    def option(self) -> Option:
        kind = self.number()
        if kind == 3:
            return self.number()
        if kind == 4:
            return self.text()
        return (None, False, True)[kind]

    def end(self) -> None:
        if self.at != len(self.data):
            raise ValueError("something follows")
