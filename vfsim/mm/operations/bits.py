"""The codes and flags that the two tables and their conditions speak of.

Two of them (the tag, the shift) are copies, because the files that define them stand above the
tables; `tests/checks/test_operations.py` holds them equal.
"""

from __future__ import annotations

AOP_WRITEPAGE_ACTIVATE = 0x80000
"""Returned by ``writepage``: the page cannot be written now, and comes back locked."""

WB_SYNC_NONE, WB_SYNC_ALL = 0, 1

GFP_DIRECT_RECLAIM = 0x400000
"""In an allocation's flags: it may wait."""

MIGRATE_ASYNC = 0

VM_FAULT_ERROR = 0x0873
VM_FAULT_SIGBUS, VM_FAULT_NOPAGE, VM_FAULT_LOCKED = 0x0002, 0x0100, 0x0200

DIRTY_TAG = 1
PAGE_SHIFT = 12
