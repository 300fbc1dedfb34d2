"""The locking contract of the page cache and memory mappings: a page per table.

=============================  ===================================================================
page                           what a filesystem says there
=============================  ===================================================================
`address_space_operations`     the cached pages of a file
`writepage`                    rules of that table which see a whole call: how pages are written
`vm_operations_struct`         a range of a process's memory
=============================  ===================================================================

Each table's page opens with the table as the document prints it.  Above each method stands its row,
in the document's words; what the words mean for the locks at hand is said beside them where the
column's title does not (see `vfsim.checks.rules`).

A filesystem subclasses a table and writes the methods it has; **a method left out does what the
method here does**, which is what Linux does for NULL, with Linux's errno.  Overrides inherit the
row: nothing is declared twice.

Each page says who calls the methods in Linux; which of them nobody calls here is listed in
`vfsim.testing.selftest.contract.without`.
"""

from __future__ import annotations

from vfsim.mm import prose as prose
from vfsim.mm.operations.address_space_operations import AddressSpaceOperations
from vfsim.mm.operations.bits import (
    AOP_WRITEPAGE_ACTIVATE,
    GFP_DIRECT_RECLAIM,
    VM_FAULT_LOCKED,
    VM_FAULT_NOPAGE,
    WB_SYNC_ALL,
    WB_SYNC_NONE,
)
from vfsim.mm.operations.vm_operations_struct import VmOperations

__all__ = [
    "AOP_WRITEPAGE_ACTIVATE",
    "GFP_DIRECT_RECLAIM",
    "VM_FAULT_LOCKED",
    "VM_FAULT_NOPAGE",
    "WB_SYNC_ALL",
    "WB_SYNC_NONE",
    "AddressSpaceOperations",
    "VmOperations",
]
