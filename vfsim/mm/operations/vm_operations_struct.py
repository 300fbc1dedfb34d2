"""What a filesystem does for a mapped range of memory, as the document prints it::

    vm_operations_struct

                   mmap_sem  PageLocked(page)
    open:          yes
    close:         yes
    fault:         yes       can return with page locked
    map_pages:     yes
    page_mkwrite:  yes       can return with page locked
    pfn_mkwrite:   yes
    access:        yes

Called by page faults, and by mmap(2), fork and munmap(2) for the ranges of an address space.
``mmap_sem`` covers the list of ranges: faults hold it shared, what changes the list exclusive.  A
fault may give its page back locked, so that it cannot be truncated before it is mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfsim.checks.calls import Call
from vfsim.checks.contract import Operations
from vfsim.checks.rules import (
    ADAPTED,
    Lock,
    cell,
    expects,
    must_hold,
    never_blocks,
    prototype,
    row,
    watch,
    when,
)
from vfsim.mm.operations.bits import (
    VM_FAULT_ERROR,
    VM_FAULT_LOCKED,
    VM_FAULT_NOPAGE,
    VM_FAULT_SIGBUS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


# -- what `when=` and `expects` ask ----------------------------------------------------------------


def mm_is_alive(vma: Any) -> bool:
    return bool(vma.vm_mm.mm_users)


def page_comes_locked(result: int | None) -> bool:
    return bool(result and result & VM_FAULT_LOCKED)


def without_a_page(vmf: Any) -> bool:
    return vmf.page is None


# -- what `watch` looks at -------------------------------------------------------------------------


def locks_what_it_says(call: Call, vmf: Any) -> Iterator[None]:
    """P78, P85: the flag and the lock agree, and the page is still the file's."""
    yield
    if call.error is None and page_comes_locked(call.result):
        page = vmf.page
        rule = "P78" if call.site.method.name == "fault" else "P85"
        call.check(
            rule,
            page is not None and page.mapping is not None,
            "returned a locked page that was truncated",
        )


def expects_nopage(call: Call) -> Iterator[None]:
    """P88: NOPAGE or an error; 0 is tolerated."""
    yield
    if call.error is None:
        fine = not call.result or bool(call.result & (VM_FAULT_NOPAGE | VM_FAULT_ERROR))
        call.check("P88", fine, f"returned {call.result!r}, neither VM_FAULT_NOPAGE nor an error")


# -- the table -------------------------------------------------------------------------------------


class VmOperations(Operations):
    """What a filesystem does for a range of a process's memory (``vma.vm_ops``)."""

    table = "vm_operations_struct"
    columns = (
        Lock("mmap_sem", "vma.vm_mm.mmap_sem", shared=True),
        Lock("PageLocked(page)", "vmf.page.lock", anyone=True),
    )

    @prototype("void (*open)(struct vm_area_struct*);")
    @row("yes", "")
    def open(self, vma: Any) -> None:
        """Sleeps.  The range was copied or split: one more user.  Left out: nothing."""

    @prototype("void (*close)(struct vm_area_struct*);")
    @row(
        cell(
            "yes",
            shared=when(mm_is_alive, "vma.vm_mm.mmap_sem"),
            status=ADAPTED,
            means="the caller holds mmap_sem, unless the mm is dying and has no other user",
        ),
        "",
    )
    def close(self, vma: Any) -> None:
        """Sleeps.  The range goes: one user less.  Left out: nothing."""

    @prototype("int (*fault)(struct vm_area_struct*, struct vm_fault *);")
    @row(
        "yes",
        cell(
            "can return with page locked",
            acquires=when(page_comes_locked, "vmf.page.lock"),
            means="with VM_FAULT_LOCKED the page is locked on return, without it it is not",
        ),
    )
    @watch(locks_what_it_says)
    def fault(self, vma: Any, vmf: Any) -> int:
        """Sleeps.  A page is missing: put it in ``vmf.page``, locked, and return VM_FAULT_LOCKED.

        Left out: VM_FAULT_SIGBUS.
        """
        return VM_FAULT_SIGBUS

    @row(cell("yes", shared="vmf.vma.vm_mm.mmap_sem"), "")
    @must_hold("vmf.ptl", rule="P82")
    @never_blocks(rule="P82")
    def map_pages(self, vmf: Any, start_pgoff: int, end_pgoff: int) -> None:
        """Never sleeps.  Map what is in the page cache around a fault, if it can be had without
        waiting.

        Left out: only the page itself is mapped.
        """

    @prototype("int (*page_mkwrite)(struct vm_area_struct *, struct vm_fault *);")
    @row(
        "yes",
        cell(
            "can return with page locked",
            acquires=when(page_comes_locked, "vmf.page.lock"),
            means="with VM_FAULT_LOCKED the page is locked on return, without it it is not",
        ),
    )
    @watch(locks_what_it_says)
    def page_mkwrite(self, vma: Any, vmf: Any) -> int:
        """Sleeps.  A page is about to become writable: return it locked with VM_FAULT_LOCKED, or
        VM_FAULT_NOPAGE if it was truncated.

        Left out: 0, it may be written.
        """
        return 0

    @prototype("int (*pfn_mkwrite)(struct vm_area_struct *, struct vm_fault *);")
    @row("yes", "")
    @expects(without_a_page, rule="P88")
    @watch(expects_nopage)
    def pfn_mkwrite(self, vma: Any, vmf: Any) -> int:
        """Sleeps.  The same for memory without pages.  Left out: 0."""
        return 0

    @prototype("int (*access)(struct vm_area_struct *, unsigned long, void*, int, int);")
    @row("yes", "")
    def access(self, vma: Any, addr: int, buf: Any, len: int, write: bool) -> int:
        """Sleeps.  Read or write another process's memory that has no pages; returns how much.

        Left out: 0.
        """
        return 0
