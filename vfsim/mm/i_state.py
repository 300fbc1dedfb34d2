"""The states of an inode, as bits of ``i_state``: what writeback and the inode cache both go by.

Floor 3 has them because writeback sets and asks for them; what each means to those who look an
inode up is told in `vfsim.fs.icache`.  All are changed under ``i_lock``.  The numbers are Linux's.
"""

from __future__ import annotations

I_DIRTY_SYNC = 1 << 0
I_DIRTY_DATASYNC = 1 << 1
I_DIRTY_PAGES = 1 << 2
I_NEW = 1 << 3
I_WILL_FREE = 1 << 4
I_FREEING = 1 << 5
I_CLEAR = 1 << 6
I_SYNC = 1 << 7
I_REFERENCED = 1 << 8
I_LINKABLE = 1 << 10
I_DIRTY_TIME = 1 << 11
I_DIRTY_INODE = I_DIRTY_SYNC | I_DIRTY_DATASYNC
I_DIRTY = I_DIRTY_INODE | I_DIRTY_PAGES
I_DIRTY_ALL = I_DIRTY | I_DIRTY_TIME
I_DYING = I_FREEING | I_WILL_FREE
"""What no new reference can be taken on."""
