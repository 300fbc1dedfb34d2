"""The sentences of the document about the page cache, writeback, swap and memory mappings, as
rules.

See `vfsim.fs.prose` for what the fields say.  What is checked on the spot is declared in
`vfsim.mm.operations`.
"""

from __future__ import annotations

from vfsim.checks.rules import rule


def _of(*methods: str) -> list[str]:
    return [f"address_space_operations.{m}" for m in methods]


def _vm(*methods: str) -> list[str]:
    return [f"vm_operations_struct.{m}" for m in methods]


# -- reading ---------------------------------------------------------------------------------------

rule(
    "P17",
    "All of these operations may block, except set_page_dirty and freepage, which must not.",
    "address_space_operations.*",
    why="the others are called where sleeping is allowed; releasepage follows its gfp, migratepage "
    "its mode",
)
rule(
    "P18",
    "write_begin, write_end and readpage may be called by a loop device's worker.",
    *_of("write_begin", "write_end", "readpage"),
    why="they must not rely on the calling task's files or memory",
)
rule(
    "P19",
    "readpage unlocks the page, itself or from the end of its I/O.",
    *_of("readpage"),
    why="at return the page is unlocked or was given to an I/O, which owes the unlock",
)
rule(
    "P20",
    "So the caller of readpage does not unlock it.",
    *_of("readpage"),
    why="while an I/O owes the unlock, the task that called readpage does not unlock the page",
)
rule(
    "P21",
    "readpages enters the pages in the page cache and starts reading them.",
    *_of("readpages"),
    why="what is in the page cache and locked has an I/O; the caller frees the rest",
)
rule("P22", "They are unlocked as their I/O completes.", *_of("readpages"))

# -- writepage -------------------------------------------------------------------------------------

rule(
    "P23",
    "wbc.sync_mode says whether writepage is called for cleansing or for sync.",
    *_of("writepage"),
    why="entry: a known mode; the page was just cleaned for I/O, is still tagged dirty and not "
    "under writeback",
)
rule(
    "P24",
    "For sync, I/O must be started on the page, even if that means waiting for I/O in progress.",
    *_of("writepage"),
    why="a page that comes back redirtied was not written",
)
rule(
    "P25",
    "For sync, I/O in progress is waited for before the new one starts.",
    *_of("writepage"),
    why="when its first I/O is submitted, none of that page is in flight; the entry check of P23 "
    "sees to the callers",
)
rule(
    "P26",
    "For cleansing, start as much as possible and try not to wait for I/O in progress.",
    *_of("writepage"),
    status="soft",
    why="a warning for each call that waits for I/O on its own page or that page's buffers",
)
rule(
    "P27",
    "For cleansing, a page that cannot be written without waiting is redirtied, unlocked, and 0 "
    "returned.",
    *_of("writepage"),
    status="soft",
    why="allowed, not demanded; doing it in the wrong order is P35",
)
rule(
    "P28",
    "writepage unlocks the page before it returns, also on error.",
    *_of("writepage"),
    why="except P29",
)
rule(
    "P29",
    "With the activate code the page could not be written, and comes back locked and dirty.",
    *_of("writepage"),
)
rule(
    "P30",
    "After the activate code the VM leaves the page alone for a while.",
    *_of("writepage"),
    why="not at once again by the same writer; reclaim's part is looked at once it exists",
)
rule(
    "P31",
    "A page that is not redirtied gets set_page_writeback first and is unlocked after that.",
    *_of("writepage"),
    why="at the moment of the unlock the page is not clean with a dirty tag",
)
rule(
    "P32",
    "I/O is submitted only after set_page_writeback.",
    *_of("writepage"),
    why="looked at when I/O on the page is submitted",
)
rule(
    "P33",
    "The end of the I/O calls end_page_writeback.",
    *_of("writepage"),
    why="an obligation until then; what is left at umount or at the end was forgotten",
)
rule(
    "P34",
    "If no I/O is submitted, writepage itself calls end_page_writeback.",
    *_of("writepage"),
    why="under writeback with no I/O in flight at return",
)
rule(
    "P35",
    "A page that is neither redirtied nor put under writeback stays clean, but tagged dirty: "
    "forbidden.",
    *_of("writepage"),
    why="looked at when the page is unlocked",
)
rule(
    "P35a",
    "A page under writeback need not be locked, and may be.",
    *_of("writepage"),
    status="permission",
    why="so nothing asks for the page lock while writeback is set",
)

# -- writepages and the small operations -----------------------------------------------------------

rule(
    "P36",
    "writepages should start I/O on at least nr_to_write pages.",
    *_of("writepages"),
    status="soft",
    why="a warning if fewer were started for cleansing, redirtied ones aside, and dirty ones are "
    "left",
)
rule(
    "P37",
    "nr_to_write goes down by one for each page written.",
    *_of("writepages"),
    why="not fewer than went under writeback; generic code counts skipped pages, too",
)
rule(
    "P38",
    "Writing more or fewer pages is fine if it is close.",
    *_of("writepages"),
    status="soft",
    why="fewer is P36; a warning for more than twice as many, for cleansing",
)
rule(
    "P39",
    "Without a nr_to_write, all dirty pages are written.",
    *_of("writepages"),
    status="adapted",
    why="it is a number now: WB_SYNC_ALL writes all that was dirty at entry, whatever the number",
)
rule(
    "P40",
    "Only pages of the mapping's list for I/O are written.",
    *_of("writepages"),
    status="adapted",
    why="the list is gone: what goes under writeback was tagged dirty",
)
rule(
    "P41",
    "set_page_dirty may be called under a spinlock, so it cannot block.",
    *_of("set_page_dirty"),
)
rule(
    "P42",
    "set_page_dirty may be called with the page unlocked.",
    *_of("set_page_dirty"),
    why="it may not assert the page lock",
)
rule(
    "P43", "bmap is for FIBMAP and swap; it should get no new callers.", *_of("bmap"), status="soft"
)
rule(
    "P44",
    "invalidatepage drops what is attached to the part of a page that is truncated.",
    *_of("invalidatepage"),
    status="adapted",
    why="no buffer inside that part is dirty afterwards; the sentence about its return value is "
    "void: it returns nothing",
)
rule(
    "P45",
    "Without invalidatepage the kernel drops the page's buffers itself.",
    *_of("invalidatepage"),
    why="the table's own body does that",
)
rule(
    "P46",
    "releasepage says whether what was attached to the page is gone.",
    *_of("releasepage"),
    status="adapted",
    why="the document has it inversely: in the code, and here, true means gone",
)
rule(
    "P47",
    "Without releasepage the filesystem has no interest in the page's buffers.",
    *_of("releasepage"),
    why="the table's own body frees them",
)
rule(
    "P48",
    "freepage comes after the page has left the page cache.",
    *_of("freepage"),
    why="entry: the page belongs to no mapping",
)
rule(
    "P49",
    "launder_page may come before a dirty page is dropped; without an error the page is clean.",
    *_of("launder_page"),
)
rule(
    "P50",
    "The page stays locked all the time, so that nobody dirties it again.",
    *_of("launder_page"),
    why="the page lock is pinned: releasing it inside is caught",
)
rule(
    "P51",
    "After swap_activate, swap goes through readpage and direct_IO of the file.",
    *_of("swap_activate"),
    status="adapted",
    why="the sentence about its argument is void; looked at once swap exists",
)
rule(
    "P52",
    "swap_deactivate follows each swap_activate that succeeded.",
    *_of("swap_deactivate"),
    why="looked at once swap exists",
)

# -- memory mappings -------------------------------------------------------------------------------

rule(
    "P77",
    "fault is called for a page that is not present, and finds the one at the given offset.",
    *_vm("fault"),
    why="looked at once processes have memory",
)
rule(
    "P78",
    "fault returns a page that can be truncated locked, having checked that it was not.",
    *_vm("fault"),
    why="VM_FAULT_LOCKED and the page lock agree, and the page is still in its mapping",
)
rule(
    "P79",
    "The page lock keeps a truncation out.",
    *_vm("fault"),
    why="truncation locks each page it removes",
)
rule("P80", "The VM unlocks the page.", *_vm("fault"), why="looked at once processes have memory")
rule(
    "P81",
    "map_pages maps what is easy to reach between two offsets.",
    *_vm("map_pages"),
    why="looked at once processes have memory",
)
rule(
    "P82",
    "map_pages is called with the page table locked and must not block.",
    *_vm("map_pages"),
    why="as the document says; in v4.10 the method takes that lock itself",
)
rule(
    "P83",
    "What cannot be reached without waiting is skipped.",
    *_vm("map_pages"),
    why="waiting is caught by P82",
)
rule(
    "P84",
    "Entries are set with do_set_pte, relative to the given pointer.",
    *_vm("map_pages"),
    status="adapted",
    why="the helper's name has changed; looked at once processes have memory",
)
rule(
    "P85",
    "page_mkwrite excludes truncation and returns with the page locked.",
    *_vm("page_mkwrite"),
    why="VM_FAULT_LOCKED and the page lock agree, and the page is still in its mapping; 0 is "
    "tolerated",
)
rule(
    "P86",
    "If the page was truncated, page_mkwrite returns VM_FAULT_NOPAGE and looks up no other.",
    *_vm("page_mkwrite"),
)
rule(
    "P87",
    "After NOPAGE the VM tries again.",
    *_vm("page_mkwrite"),
    why="looked at once processes have memory",
)
rule(
    "P88",
    "pfn_mkwrite is the same for memory without pages; it returns NOPAGE or an error.",
    *_vm("pfn_mkwrite"),
    why="0 is tolerated, as in the code",
)
rule(
    "P89",
    "Unless it fails, the entry is made writable.",
    *_vm("pfn_mkwrite"),
    why="looked at once processes have memory",
)
rule(
    "P90",
    "access comes only after the pages could not be had the ordinary way.",
    *_vm("access"),
    why="looked at once processes have memory",
)

# -- what only the code says -----------------------------------------------------------------------

rule(
    "E7",
    "page_mkwrite takes the page-fault level against freezing after mmap_sem and before the page "
    "lock.",
    *_vm("page_mkwrite"),
    why="looked at once freezing exists",
)
rule("E14", "releasepage sees a page that is locked and not under writeback.", *_of("releasepage"))
rule(
    "E15",
    "A page leaves the page cache locked, unmapped and clean.",
    *_of("freepage"),
    why="asked where pages are removed",
)
rule(
    "E17",
    "Ending a writeback that was not begun is a bug.",
    *_of("writepage"),
    why="asked by end_page_writeback()",
)
rule(
    "E19",
    "mmap and get_unmapped_area have mmap_sem.",
    "file_operations.mmap",
    "file_operations.get_unmapped_area",
)
rule("E20", "swap_activate has the file's i_rwsem exclusive.", *_of("swap_activate"))
rule("E21", "An asynchronous migratepage must not block.", *_of("migratepage"))
rule(
    "E26",
    "Reclaim calls writepage for file pages from kswapd only, for cleansing.",
    *_of("writepage"),
    why="looked at once memory is reclaimed",
)
