"""Scenarios about data: writing against truncating, reading, syncing and unlinking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.testing.scenarios.base import file, folder, scenario
from vfsim.testing.scenarios.calls import (
    append,
    chmod,
    create,
    drop_caches,
    empty,
    fsync,
    ftruncate,
    keep_open,
    link,
    overwrite,
    put,
    read,
    rename,
    stat,
    sync,
    truncate,
    unlink,
    write_fsync,
)
from vfsim.testing.scenarios.oracle import PAGE, Weak

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.scenarios.base import LibraryScenario

    Found = type[LibraryScenario]

_F = (file("/f", b"old data"),)
_PAGES = (file("/f", b"o" * (2 * PAGE)),)
_A = file("/d/a")
_ZEROS = Weak(zeros=True)


def writing() -> Iterator[Found]:
    """Writers of one file."""
    yield scenario(append("/f", b"one"), append("/f", b"two"), before=_F)
    yield scenario(append("/f", b"1"), append("/f", b"22"), append("/f", b"333"), before=_F)
    yield scenario(
        overwrite("/f", b"A" * 8, 0), overwrite("/f", b"B" * 8, 4), before=_F, note="one page"
    )
    yield scenario(
        overwrite("/f", b"A" * (2 * PAGE), 0), overwrite("/f", b"B" * (2 * PAGE), 0), before=_PAGES
    )
    yield scenario(overwrite("/f", b"A" * PAGE, PAGE // 2), append("/f", b"B" * 100), before=_PAGES)
    yield scenario(put("/f", b"first"), put("/f", b"2nd"), note="new file")
    yield scenario(write_fsync("/f", b"first"), write_fsync("/g", b"second"))
    yield scenario(append("/f", b"one"), stat("/f"), before=_F)
    yield scenario(append("/f", b"one"), chmod("/f", 0o600), before=_F)


def truncating() -> Iterator[Found]:
    """Writers against truncation."""
    yield scenario(append("/f", b"new"), truncate("/f", 0), before=_F)
    yield scenario(append("/f", b"new"), ftruncate("/f", 3), before=_F)
    yield scenario(overwrite("/f", b"NEW", 6), truncate("/f", 2), before=_F)
    yield scenario(overwrite("/f", b"N" * 10, PAGE - 5), truncate("/f", PAGE), before=_PAGES)
    yield scenario(append("/f", b"new"), empty("/f"), before=_F)
    yield scenario(truncate("/f", 3), truncate("/f", 20), before=_F)
    yield scenario(truncate("/f", 3), truncate("/f", 20), append("/f", b"!"), before=_F)
    yield scenario(empty("/f"), unlink("/f"), before=_F)
    yield scenario(truncate("/f", 3), unlink("/f"), create("/f"), before=_F)


def reading() -> Iterator[Found]:
    """Readers against whoever changes what they read; see W1 for what Linux lets them see."""
    yield scenario(read("/f"), append("/f", b" and more"), before=_F)
    yield scenario(read("/f"), overwrite("/f", b"NEW DATA", 0), before=_F)
    yield scenario(read("/f"), overwrite("/f", b"N" * (2 * PAGE), 0), before=_PAGES)
    yield scenario(read("/f"), truncate("/f", 3), before=_F, weak=_ZEROS)
    yield scenario(read("/f"), truncate("/f", 100), before=_PAGES, weak=_ZEROS, note="two pages")
    yield scenario(read("/f"), unlink("/f"), before=_F)
    yield scenario(read("/f"), put("/g", b"new"), rename("/g", "/f"), before=_F)
    yield scenario(read("/f"), read("/f"), overwrite("/f", b"NEW", 0), before=_F)


def syncing() -> Iterator[Found]:
    """fsync and sync against those who make work for them."""
    yield scenario(fsync("/f"), append("/f", b"new"), before=_F)
    yield scenario(fsync("/f"), append("/f", b"new"), unlink("/f"), before=_F)
    yield scenario(fsync("/f"), fsync("/f"), before=_F)
    yield scenario(fsync("/f"), truncate("/f", 2), before=_F)
    yield scenario(fsync("/f"), overwrite("/f", b"N" * PAGE, 0), before=_PAGES, note="two pages")
    yield scenario(fsync("/f"), unlink("/f"), before=_F)
    yield scenario(fsync("/f"), rename("/f", "/g"), before=_F)
    yield scenario(write_fsync("/f", b"new"), append("/f", b"!"), before=_F)
    yield scenario(write_fsync("/f", b"new"), truncate("/f", 1), unlink("/f"), before=_F)
    yield scenario(sync(), append("/f", b"new"), before=_F)
    yield scenario(sync(), create("/a"), unlink("/f"), before=_F)
    yield scenario(sync(), sync(), append("/f", b"new"), before=_F)
    yield scenario(sync(), truncate("/f", 0), before=_PAGES)


def pressed() -> Iterator[Found]:
    """Memory pressure, which may throw away whatever nobody uses, against those who use it."""
    yield scenario(drop_caches(), stat("/f"), before=_F)
    yield scenario(drop_caches(), read("/f"), before=_F)
    yield scenario(drop_caches(), append("/f", b"new"), before=_F)
    yield scenario(drop_caches(), create("/a"), stat("/a"))
    yield scenario(drop_caches(), unlink("/f"), stat("/f"), before=_F)
    yield scenario(drop_caches(), rename("/f", "/d/f"), before=(*_F, folder("/d")))
    yield scenario(drop_caches(), rename("/d", "/e"), stat("/d/a"), before=(folder("/d"), _A))
    yield scenario(drop_caches(), drop_caches(), rename("/f", "/g"), before=_F)
    yield scenario(drop_caches(), sync(), append("/f", b"new"), before=_F)


def nameless() -> Iterator[Found]:
    """Files that lose their name while somebody has them open."""
    yield scenario(keep_open("/f", b"NEW"), unlink("/f"), before=_F)
    yield scenario(keep_open("/f", b"NEW"), unlink("/f"), create("/f"), before=_F)
    yield scenario(
        keep_open("/f", b"NEW"),
        rename("/g", "/f"),
        before=(*_F, file("/g", b"other")),
        note="replaced",
    )
    yield scenario(keep_open("/f", b"NEW"), link("/f", "/g"), unlink("/f"), before=_F)
    yield scenario(
        keep_open("/d/f", b"NEW"), unlink("/d/f"), before=(folder("/d"), file("/d/f", b"old data"))
    )
    yield scenario(append("/f", b"new"), unlink("/f"), before=_F)
    yield scenario(append("/f", b"new"), rename("/f", "/g"), before=_F)
