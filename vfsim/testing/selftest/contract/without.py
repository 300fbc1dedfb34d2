"""Cells and rules without a mutant, and why: nobody can break what nobody calls.

As the kernel grows, lines go from here to the tables; a test sees to it that no method in here has
a caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfsim.checks import tables
from vfsim.checks.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.checks.rules import Rule

NOT_CALLED = {
    "super_operations": {
        "quota_read quota_write": "no quota",
        "bdev_try_to_free_page": "devices have no pages",
    },
    "address_space_operations": {
        "readpages": "no read-ahead",
        "bmap": "no FIBMAP, no swap",
        "direct_IO": "no direct I/O",
        "isolate_page migratepage putback_page": "no migration",
        "is_partially_uptodate": "buffered reads take whole pages",
        "error_remove_page": "no memory errors",
        "swap_activate swap_deactivate": "no swap",
    },
    "file_operations": {
        "poll": "no poll(2)",
        "unlocked_ioctl compat_ioctl": "ioctl(2) only freezes and thaws",
        "mmap get_unmapped_area": "processes have no memory",
        "fasync": "no signal-driven I/O",
        "lock flock setlease": "no file locks and leases",
        "readv writev": "no readv(2), no writev(2)",
        "sendfile sendpage splice_write splice_read": "no pipes and sockets",
        "fallocate": "no fallocate(2)",
    },
    "file_lock_operations": {"fl_copy_lock fl_release_private": "no file locks"},
    "lock_manager_operations": {
        "lm_compare_owner lm_owner_key lm_notify lm_grant lm_break lm_change": "no file locks"
    },
    "block_device_operations": {
        "ioctl compat_ioctl getgeo": "devices have no files",
        "direct_access": "no DAX",
        "media_changed unlock_native_capacity revalidate_disk": "no removable disks, no partitions",
        "swap_slot_free_notify": "no swap",
    },
    "dquot_operations": {
        "write_dquot acquire_dquot release_dquot mark_dirty write_info": "no quota"
    },
    "vm_operations_struct": {
        "open close fault map_pages page_mkwrite pfn_mkwrite access": "processes have no memory"
    },
}
"""Methods without a caller: what the kernel does not have yet."""

NOT_BUILT = {
    "E22": "no delegations",
    "E26": "no reclaim",
}
"""Rules about methods that are called, but not in the situation that the rule is about."""

_FREE = ("soft", "permission", "info", "stale")


def not_called() -> dict[str, str]:
    """``TABLE.METHOD`` to what is missing."""
    return {
        f"{table}.{method}": why
        for table, groups in NOT_CALLED.items()
        for methods, why in groups.items()
        for method in methods.split()
    }


def without(covered: set[str]) -> Iterator[tuple[str, str]]:
    """Each cell and rule that is not in ``covered``, with its reason; "" if there is none."""
    missing = not_called()
    for cls in tables.tables().values():
        for method in tables.listed(cls):
            for cell in method.cells:
                if cell.doc and cell.rule not in covered:
                    why = missing.get(method.id, "")
                    yield cell.rule, f"no caller yet: {why}" if why else ""
    for id in sorted(RULES, key=tables.rule_order):
        if id not in covered:
            yield id, _why_rule(RULES[id], missing)


def _why_rule(rule: Rule, missing: dict[str, str]) -> str:
    if rule.status in _FREE:
        return f"{rule.status}: {rule.why or rule.text}"
    if rule.id in NOT_BUILT:
        return f"no caller yet: {NOT_BUILT[rule.id]}"
    reasons = [missing.get(id, "") for id in tables.expanded(rule.applies_to)]
    if reasons and all(reasons):
        return f"no caller yet: {'; '.join(dict.fromkeys(reasons))}"
    return ""
