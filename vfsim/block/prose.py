"""The sentences of the document about buffers and block devices, as rules.

See `vfsim.fs.prose` for what the fields say.  What is checked on the spot is declared in
`vfsim.block.operations`.
"""

from __future__ import annotations

from vfsim.checks.rules import rule

_END_IO = "buffer_head.b_end_io"
_CHANGES = [
    f"block_device_operations.{m}"
    for m in ("media_changed", "unlock_native_capacity", "revalidate_disk")
]
_SWAP = "block_device_operations.swap_slot_free_notify"

rule(
    "P58",
    "b_end_io is called from interrupts, so it must not sleep.",
    _END_IO,
    why="nor take a lock that is elsewhere taken with interrupts on: the lock order rules see that",
)
rule(
    "P59",
    "The buffer is locked when it is called.",
    _END_IO,
    why="whoever holds it: it was given to the I/O",
)
rule("P60", "Nothing else is promised.", _END_IO, why="it may assert no other lock")
rule(
    "P61",
    "It is called once for each submitted buffer, when the I/O is done.",
    _END_IO,
    why="a bio ends once, and the handler unlocks the buffer; the document's list of who does it "
    "is history",
)
rule(
    "P62",
    "media_changed, unlock_native_capacity and revalidate_disk are called from one place only.",
    *_CHANGES,
    status="adapted",
    why="v4.10 has three callers; looked at once something calls them",
)
rule(
    "P63",
    "swap_slot_free_notify is called with the swap lock, a spinlock, so it must not sleep.",
    _SWAP,
    status="adapted",
    why="never sleeps, always; the lock is one per device, and none where an I/O ends",
)
rule(
    "P64",
    "... and sometimes with the page lock.",
    _SWAP,
    status="permission",
    why="so nothing asks for it",
)
rule(
    "E16",
    "A buffer that is submitted is locked, mapped and has an end_io.",
    _END_IO,
    why="asked by submit_bh()",
)
