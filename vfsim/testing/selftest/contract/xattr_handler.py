"""Mutants of ``xattr_handler``: extended attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.testing.selftest import programs
from vfsim.testing.selftest.contract.notation import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.testing.selftest.mutants import Mutant

I_MUTEX = "i_mutex(inode)"

LIST = Row("xattr_handler", "list", programs.list_xattrs)
GET = Row("xattr_handler", "get", programs.get_xattr)
GET_FOR_WRITE = Row("xattr_handler", "get", programs.write)
SET = Row("xattr_handler", "set", programs.set_xattr)
SET_LIST = Row("xattr_handler", "set", programs.set_list, variant="access control list")


def mutants() -> Iterator[Mutant]:
    """All of them."""
    yield from LIST.no(I_MUTEX, "dentry.d_inode.i_rwsem", rwsem=True)
    yield from GET_FOR_WRITE.not_promised(I_MUTEX, "inode.i_rwsem")
    yield from SET.yes(I_MUTEX, "inode.i_rwsem")
    yield from SET_LIST.yes(I_MUTEX, "inode.i_rwsem")
    for row in (LIST, GET, SET):
        yield from row.may_block(rule="P5", variant=f"xattr {row.method}")
