"""The bits of flags that the conditions of the tables look at.

The tables stand below the files that define most of these, because those files name the tables'
classes; so they are copies, and `tests/checks/test_operations.py` holds them equal.
"""

from __future__ import annotations

LOOKUP_RCU = 0x0040
"""In the flags of a path walk: it holds nothing but the RCU read lock."""

MAY_NOT_BLOCK = 0x0080
"""In the mask of ``permission``: the walk is an rcu-walk."""

S_DEAD = 1 << 4
DCACHE_PAR_LOOKUP = 1 << 28
RENAME_EXCHANGE = 1 << 1
I_NEW, I_FREEING, I_CLEAR, I_SYNC = 1 << 3, 1 << 5, 1 << 6, 1 << 7
FASYNC = 0o20000
