"""The contract as data: the document's words, a stable form, and coverage that adds up."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

import vfsim.block.operations as block_page
import vfsim.fs.operations as fs_page
import vfsim.mm.operations as mm_page
from tests.checks.contract_world import run
from vfsim.checks import tables
from vfsim.checks.contract import TABLES, methods_of
from vfsim.checks.rules import RULES
from vfsim.fs.writers import SbWriters
from vfsim.locks.rwsem import RwSem

SEED = Path(__file__).resolve().parents[2] / "shared" / "seed" / "Locking.txt"
DIGEST = "1ad36ed14762d5d8"
"""Of every table, method, prototype, column and cell, in the document's words."""

Cells = dict[str, dict[str, str]]


def contract() -> dict[str, Any]:
    assert fs_page and mm_page and block_page
    return tables.as_json()


def words() -> dict[str, tuple[dict[str, str], Cells]]:
    """Per table: prototypes by method, and the cells of the methods that have a row."""
    return {
        name: (
            {m: d["prototype"] for m, d in table["methods"].items() if d["prototype"]},
            {
                m: {c: v["doc"] for c, v in d["cells"].items()}
                for m, d in table["methods"].items()
                if d["row"]
            },
        )
        for name, table in contract()["tables"].items()
    }


# -- against the document --------------------------------------------------------------------------


def test_counts() -> None:
    """13 tables, 134 methods, 190 cells of which 158 say something, 91 rules of prose and 26 of the
    code.
    """
    found = contract()
    assert list(found["tables"]) == list(tables.DOCUMENT) and len(found["tables"]) == 13
    methods = [m for t in found["tables"].values() for m in t["methods"].values()]
    cells = [c for m in methods for c in m["cells"].values()]
    assert (len(methods), len(cells), sum(bool(c["doc"]) for c in cells)) == (134, 190, 158)
    ids = [r["id"] for r in found["rules"]]
    expected = [f"P{i}" for i in range(1, 91)]
    expected.insert(35, "P35a")
    assert ids == expected + [f"E{i}" for i in range(1, 27)]


def test_digest() -> None:
    """The words do not change by accident, also where the document is not at hand."""
    text = json.dumps(words(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGEST


_TITLES = {"dentry_operations", "inode_operations", "xattr_handler operations", *tables.DOCUMENT}


def sections(text: str) -> dict[str, list[str]]:
    """The document's lines by table."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        head = re.fullmatch(r"-{3,} (.+?) -{3,}", line)
        if head and head[1] in _TITLES:
            lines = found[head[1].split()[0]] = []
        elif line.startswith("====="):
            lines = []
        else:
            lines.append(line)
    return found


def prototypes(lines: list[str]) -> dict[str, str]:
    """Each prototype by its method, blanks collapsed."""
    body = "\n".join(lines)
    body = body[
        body.index("prototypes:") + 11 : body.index("locking rules:")
        if "locking rules:" in body
        else None
    ]
    found = {}
    for part in body.replace("};", "").split(";"):
        text = " ".join(re.sub(r"/\*.*?\*/", " ", part).split())
        name = re.search(r"\(\*\s*(\w+)\)", text)
        if name and text.count("(") > 1:
            found[name[1]] = text + ";"
    return found


def spaced_rows(lines: list[str], columns: list[str], known: list[str]) -> Cells:
    """Rows whose cells stand under their titles."""
    title = next(
        i
        for i, line in enumerate(lines)
        if columns[0] in line and len(line) - len(line.lstrip()) > 4
    )
    starts = [lines[title].index(c) for c in columns]
    found: Cells = {}
    for line in lines[title + 1 :]:
        name = re.match(r"(\w+):?(?=\s|$)", line)
        if not name or name[1] not in known or (found and not line.startswith(name[1])):
            continue
        if name[1] in found:
            continue
        rest = line[name.end() :]
        cells = ["" for _ in columns]
        for piece in re.finditer(r"\S+(?: \S+)*", rest):
            at = piece.start() + name.end()
            column = max(i for i in range(len(starts)) if starts[i] <= at + 8 or i == 0)
            cells[column] = f"{cells[column]} {piece[0]}".strip()
        found[name[1]] = dict(zip(columns, cells, strict=True))
    return found


def colon_rows(lines: list[str], columns: list[str], known: list[str]) -> Cells:
    """Rows of one column: ``name: words``, or ``name words``."""
    found: Cells = {}
    start = next(i for i, line in enumerate(lines) if line.strip() == columns[0])
    for line in lines[start + 1 :]:
        row = re.match(r"(\w+)[: ]\s*(.*)$", line)
        if not row or row[1] not in known:
            break
        found[row[1]] = {columns[0]: " ".join(row[2].split())}
    return found


@pytest.mark.skipif(not SEED.exists(), reason="the document is not at hand")
def test_the_tables_are_the_documents() -> None:
    """Every prototype and every cell, parsed from the text itself."""
    shown = words()
    for name, lines in sections(SEED.read_text()).items():
        protos, cells = shown[name]
        assert prototypes(lines) == protos, name
        columns = contract()["tables"][name]["columns"]
        if not columns:
            continue
        known = list(contract()["tables"][name]["methods"])
        one = len(columns) == 1 and any(
            line.strip() == columns[0] and line[:1] != " " for line in lines
        )
        rows = colon_rows(lines, columns, known) if one else spaced_rows(lines, columns, known)
        assert rows == cells, name


# -- the form --------------------------------------------------------------------------------------


def test_the_form_is_stable() -> None:
    """Keys, types and values as promised, and it is JSON."""
    found = json.loads(json.dumps(contract()))
    assert list(found) == ["source", "tables", "rules"]
    for table in found["tables"].values():
        assert list(table) == ["columns", "methods"]
        for method in table["methods"].values():
            assert list(method) == ["prototype", "row", "cells", "declared_at"]
            assert re.fullmatch(
                r"vfsim/(fs|mm|block)/operations(/\w+)?\.py:\d+", method["declared_at"]
            )
            assert bool(method["cells"]) == method["row"]
            for column, cell in method["cells"].items():
                assert column in table["columns"] and list(cell) == ["doc", "means", "status"]
                assert cell["status"] in ("enforced", "adapted", "not promised", "unspecified")
                assert bool(cell["doc"]) == bool(cell["means"]) == (cell["status"] != "unspecified")
    ids = {f"{t}.{m}" for t, table in found["tables"].items() for m in table["methods"]}
    for rule in found["rules"]:
        assert list(rule) == ["id", "text", "applies_to", "status", "why"]
        assert set(rule["applies_to"]) <= ids and rule["text"].endswith(".")
        assert rule["status"] in ("enforced", "adapted", "soft", "permission", "info", "stale")


DECISIONS = {
    "adapted": """
        dentry_operations.d_compare.rename_lock
        dentry_operations.d_real.may_block
        inode_operations.lookup.i_mutex(inode)
        inode_operations.atomic_open.i_mutex(inode)
        inode_operations.rename.i_mutex(inode)
        super_operations.sync_fs.s_umount
        address_space_operations.write_begin.i_mutex
        address_space_operations.write_end.i_mutex
        file_lock_operations.fl_copy_lock.inode->i_lock
        file_lock_operations.fl_release_private.inode->i_lock
        lock_manager_operations.lm_compare_owner.inode->i_lock
        lock_manager_operations.lm_owner_key.inode->i_lock
        lock_manager_operations.lm_notify.inode->i_lock
        lock_manager_operations.lm_break.inode->i_lock
        lock_manager_operations.lm_change.inode->i_lock
        block_device_operations.unlock_native_capacity.bd_mutex
        dquot_operations.mark_dirty.FS_recursion
        vm_operations_struct.close.mmap_sem
    """,
    "not promised": """
        dentry_operations.d_compare.->d_lock
        inode_operations.permission.i_mutex(inode)
        inode_operations.get_acl.i_mutex(inode)
        inode_operations.getattr.i_mutex(inode)
        inode_operations.update_time.i_mutex(inode)
        xattr_handler.get.i_mutex(inode)
        super_operations.quota_read.s_umount
        super_operations.quota_write.s_umount
        super_operations.bdev_try_to_free_page.s_umount
        address_space_operations.set_page_dirty.PageLocked(page)
        block_device_operations.ioctl.bd_mutex
        block_device_operations.direct_access.bd_mutex
        block_device_operations.media_changed.bd_mutex
        block_device_operations.revalidate_disk.bd_mutex
        block_device_operations.getgeo.bd_mutex
        block_device_operations.swap_slot_free_notify.bd_mutex
        dquot_operations.mark_dirty.Held_locks_when_called
    """,
}
"""Where the document and v4.10 differ, or where "no" needs a meaning; blanks of titles as
underscores.
"""


def test_statuses_are_as_decided() -> None:
    """Every other filled cell is enforced as it stands."""
    found: dict[str, set[str]] = {}
    for name, table in contract()["tables"].items():
        for method, data in table["methods"].items():
            for column, cell in data["cells"].items():
                found.setdefault(cell["status"], set()).add(
                    f"{name}.{method}.{column}".replace(" ", "_")
                )
    for status, ids in DECISIONS.items():
        assert found[status] == set(ids.split()), status


def test_one_table_or_none() -> None:
    """A table by name, its rules with it; another name is refused with those there are."""
    found = tables.as_json("file_system_type")
    assert list(found["tables"]) == ["file_system_type"]
    assert [r["id"] for r in found["rules"]] == ["P13", "P14", "P15", "P16"]
    with pytest.raises(ValueError, match="no table 'fs_type'; there are dentry_operations"):
        tables.as_json("fs_type")
    with pytest.raises(ValueError, match="no table"):
        tables.as_table("fs_type")


def test_text() -> None:
    """As the document prints it: a line per method, cells under their titles."""
    shown = tables.as_table("file_lock_operations")
    assert shown.splitlines() == [
        "file_lock_operations",
        "",
        "                     inode->i_lock  may block",
        "fl_copy_lock:        yes            no",
        "fl_release_private:  maybe          maybe[1]",
    ]
    everything = tables.as_text()
    assert all(f"\n{name}\n" in f"\n{everything}" for name in tables.DOCUMENT)
    assert "b_end_io" in tables.as_table("buffer_head") and "All may block." in tables.as_table(
        "file_operations"
    )


def test_markdown() -> None:
    """Tables with what each cell means, then the rules."""
    page = tables.as_markdown()
    assert "| `create` | yes | the caller holds dir.i_rwsem exclusive (enforced) |" in page
    assert (
        "| P13 | mount returns the root dentry or an error, never nothing. | "
        "file_system_type.mount |" in page
    )
    for line in page.splitlines():
        if line.startswith("| `"):
            assert line.count(" | ") >= 1


# -- coverage --------------------------------------------------------------------------------------


class _CoverageFs(fs_page.FileSystemType):
    name = "coverfs"


class _Dir(fs_page.InodeOperations):
    def mkdir(self, dir: Any, dentry: Any, mode: int) -> None: ...

    def getattr(self, mnt: Any, dentry: Any) -> Any:
        return dentry


class _Borrowed(fs_page.InodeOperations):
    filesystem = "somebody"

    def mkdir(self, dir: Any, dentry: Any, mode: int) -> None: ...


class _Dentry:
    def __init__(self) -> None:
        self.i_rwsem = RwSem("i_rwsem")
        self.i_flags = 0
        self.d_inode = self
        self.i_sb = self
        self.s_writers = SbWriters("coverfs")


def _some_calls() -> None:
    node = _Dentry()
    with node.s_writers.rw_sem[0].shared(), node.i_rwsem:
        _Dir().mkdir(node, node, 0)
        _Dir().mkdir(node, node, 0)
        _Borrowed().mkdir(node, node, 0)
        _Dir().getattr(None, node)
    _Dir().getattr(None, node)
    _Dir().getattr(None, node)


def test_a_record_counts_what_ran() -> None:
    """Calls by filesystem, and cells where they could have failed."""
    tables.reset()
    assert run(_some_calls) == []
    found = tables.record()
    assert found["methods"]["inode_operations.mkdir"] == {"calls": 3, "by": ["coverfs", "somebody"]}
    assert found["methods"]["inode_operations.getattr"] == {"calls": 3, "by": ["coverfs"]}
    assert found["checked"]["inode_operations.mkdir.i_mutex(inode)"] == 3
    assert found["checked"]["P5"] == 6
    once_with = found["checked"]["inode_operations.getattr.i_mutex(inode)"]
    assert once_with == 1, (
        "a lock that is not promised counts as often as the rarer of the two ways"
    )
    shown = tables.as_json("inode_operations", found)
    mkdir = shown["tables"]["inode_operations"]["methods"]["mkdir"]
    assert mkdir["coverage"] == {"calls": 3, "by": ["coverfs", "somebody"]}
    assert mkdir["cells"]["i_mutex(inode)"]["checked"] == 3
    assert mkdir["cells"]["i_mutex(inode)"]["mutant"] == "none"
    assert next(r for r in shown["rules"] if r["id"] == "P5")["checked"] == 6
    assert shown["tables"]["inode_operations"]["methods"]["create"]["coverage"] == {
        "calls": 0,
        "by": [],
    }
    assert "mkdir:  [3 calls]" in tables.as_table("inode_operations", found)
    tables.reset()
    assert "inode_operations.mkdir" not in tables.record()["methods"]


def test_mutants_in_the_tables() -> None:
    """Behind the count of a cell stands whether its mutants were caught."""
    seen = tables.empty()
    seen["mutants"]["file_system_type.mount.may block"] = "caught"
    lines = tables.as_table("file_system_type", seen).splitlines()
    assert lines[3].split() == ["mount:", "[0", "calls]", "yes", "[0,", "caught]"]
    assert lines[4].split() == ["kill_sb:", "[0", "calls]", "yes", "[0]"]


def test_how_much_is_covered() -> None:
    """Below each table, and below all of them for the rules that can be broken."""
    seen = tables.empty()
    seen["methods"]["file_system_type.mount"] = {"calls": 2, "by": ["x"]}
    seen["checked"] = {"file_system_type.mount.may block": 2, "P1": 1, "P70": 1}
    seen["mutants"] = {"file_system_type.kill_sb.may block": "caught", "P2": "missed"}
    assert tables.as_text("file_system_type", seen).endswith(
        "\n\ncalled 1 of 2 methods; checked 1 of 2 cells, caught the mutants of 1\n"
    )
    enforced = sum(rule.status in ("enforced", "adapted") for rule in RULES.values())
    assert tables.as_text(None, seen).endswith(
        f"\n\nprose\n\nchecked 1 of {enforced} rules, caught the mutants of 0\n"
    )
    assert "called" not in tables.as_text("file_system_type")


def test_verdicts_are_kept() -> None:
    """A record has what was judged in this process; of two verdicts the worse."""
    tables.reset()
    tables.judged({"made up.1": "caught", "made up.2": "missed", "made up.3": "caught"})
    tables.judged({"made up.1": "missed", "made up.2": "caught"})
    assert list(tables.record()["mutants"].values()) == ["missed", "missed", "caught"]
    tables.reset()
    assert tables.record()["mutants"] == {}


def test_base_bodies_do_not_count() -> None:
    """Called means that a filesystem's own method ran."""
    tables.reset()
    with pytest.raises(OSError):
        fs_page.InodeOperations().create(None, None, 0, False)  # type: ignore[arg-type]
    assert tables.record()["methods"] == {}


def test_the_kernels_own_methods_do_not_count() -> None:
    """A class on the kernel's floors is no filesystem."""
    cls: Any = type(fs_page.InodeOperations)(
        "Own",
        (fs_page.InodeOperations,),
        {"__module__": "vfsim.fs.own", "mkdir": _Dir.mkdir.__wrapped__},
    )
    site = methods_of(cls)["mkdir"].sites[-1]
    try:
        assert site.blamed == "kernel"
        site.calls = 5
        assert "inode_operations.mkdir" not in tables.record()["methods"]
    finally:
        methods_of(cls)["mkdir"].sites.remove(site)


def _record(calls: int, by: str, mutant: str) -> dict[str, Any]:
    return {
        "version": 1,
        "methods": {"a.b": {"calls": calls, "by": [by]}},
        "checked": {"a.b.c": calls},
        "mutants": {"a.b.c": mutant},
    }


def test_records_add_up() -> None:
    """Counts add, names unite, and a mutant that was missed anywhere is missed."""
    total = tables.merge(
        [_record(1, "y", "caught"), _record(2, "x", "missed"), _record(4, "x", "none")]
    )
    assert total["methods"]["a.b"] == {"calls": 7, "by": ["x", "y"]}
    assert total["checked"] == {"a.b.c": 7} and total["mutants"] == {"a.b.c": "missed"}
    assert tables.merge([]) == tables.empty()


def test_records_are_kept_and_read(tmp_path: Path) -> None:
    """One file a name, whole folders or single files; what is no record is named."""
    folder = tmp_path / "coverage"
    path = tables.write_record("one", _record(1, "x", "caught"), folder)
    tables.write_record("one", _record(2, "x", "caught"), folder)
    tables.write_record("two", _record(3, "y", "caught"), folder)
    assert path == folder / "one.json" and sorted(p.name for p in folder.iterdir()) == [
        "one.json",
        "two.json",
    ]
    assert tables.read_records([folder])["checked"] == {"a.b.c": 5}
    assert tables.read_records([path])["checked"] == {"a.b.c": 2}
    (tmp_path / "empty").mkdir()
    assert tables.read_records([tmp_path / "empty"]) == tables.empty()
    for text in ("", "[]", "{}", '{"version": 2}', '{"version": 1, "methods": 3}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"one\.json"):
            tables.read_records([folder])


def test_rules_are_declared_once() -> None:
    """And have a status that exists."""
    from vfsim.checks.rules import rule

    with pytest.raises(ValueError, match="twice"):
        rule("P1", "again")
    with pytest.raises(ValueError, match="status"):
        rule("P1000", "new", status="maybe")
    assert "P1000" not in RULES and "file_operations" in TABLES
