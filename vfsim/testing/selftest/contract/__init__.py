"""Mutants of the locking contract: what the kernel reaches of it, broken on both sides.

One module per table of the document; each is a table itself: a line says a cell, the lock by its
path, and a program that comes by.  They are written from the document's sentences.  `notation`
turns the words "yes", "no", "maybe" into mutants; what is more special is written out.

`cases` are all of them, with the clean counterpart of each program; `without` lists what has no
mutant, and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.testing.selftest.contract import (
    address_space_operations,
    block,
    dentry_operations,
    file_operations,
    file_system_type,
    freezing,
    inode_operations,
    promises,
    silent,
    super_operations,
    writepage,
    xattr_handler,
)
from vfsim.testing.selftest.contract import without as reasons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.case import Case

MODULES = (
    dentry_operations,
    inode_operations,
    xattr_handler,
    super_operations,
    file_system_type,
    freezing,
    file_operations,
    address_space_operations,
    writepage,
    block,
    promises,
)


def cases() -> Iterator[Case]:
    """Every mutant, and every clean run."""
    mutants = [mutant for module in MODULES for mutant in module.mutants()]
    for mutant in mutants:
        yield mutant.case()
    yield from silent.cases(mutants)


def without() -> Iterator[tuple[str, str]]:
    """Every cell and rule without a mutant, and why."""
    yield from reasons.without({case.rule for case in cases()})
