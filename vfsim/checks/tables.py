"""The contract as data: the document's tables again, from what is declared and what was seen.

* `as_json` is the stable form (``vfsim contract --format json``), `as_table` prints a table as the
  document does, `as_markdown` prints all of it for a page.
* A *coverage record* says how often each method ran, for which filesystems, how often each cell and
  rule was evaluated where it could have failed, and which mutants were caught.  `record` takes one
  from this process, `write_record` keeps it, `merge` adds several up; `as_json` shows the sum.

Tables exist once their pages are imported; a caller that wants all of them imports the three
``operations`` modules.  Records are plain JSON, so those of worker processes can be sent and added.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfsim.checks.blame import KERNEL
from vfsim.checks.contract import TABLES, methods_of
from vfsim.checks.rules import ADAPTED, ENFORCED, ENTRY, RULES, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vfsim.checks.contract import Method, Operations, Site
    from vfsim.checks.rules import Cell, Clause

SOURCE = "Linux v4.10, Documentation/filesystems/Locking"

DOCUMENT = (
    "dentry_operations",
    "inode_operations",
    "xattr_handler",
    "super_operations",
    "file_system_type",
    "address_space_operations",
    "file_lock_operations",
    "lock_manager_operations",
    "buffer_head",
    "block_device_operations",
    "file_operations",
    "dquot_operations",
    "vm_operations_struct",
)
"""The document's tables, in its order."""

COVERAGE = Path(".vfsim/coverage")
"""Where records are kept, below the working directory."""

Record = dict[str, Any]
_VERSION = 1


def listed(cls: type[Operations]) -> list[Method]:
    """The methods of a table that the document has; not what a table adds to make itself handy."""
    return [m for m in methods_of(cls).values() if m.listed]


def tables() -> dict[str, type[Operations]]:
    """The document's tables that are declared so far, in its order."""
    return {name: TABLES[name] for name in DOCUMENT if name in TABLES}


# -- as JSON ---------------------------------------------------------------------------------------


def as_json(table: str | None = None, coverage: Record | None = None) -> dict[str, Any]:
    """The contract as a JSON document.

    Args:
        table: only that table and its rules.
        coverage: a (merged) record to show beside each method, cell and rule.

    Raises:
        ValueError: there is no such table.
    """
    chosen = _chosen(table)
    shown = {
        name: {
            "columns": [c.title for c in cls.columns],
            "methods": {m.name: _method_json(m, coverage) for m in listed(cls)},
        }
        for name, cls in chosen.items()
    }
    rules = [_rule_json(id, coverage) for id in sorted(RULES, key=rule_order)]
    if table is not None:
        rules = [r for r in rules if any(a.startswith(f"{table}.") for a in r["applies_to"])]
    return {"source": SOURCE, "tables": shown, "rules": rules}


def _chosen(table: str | None) -> dict[str, type[Operations]]:
    known = tables()
    if table is None:
        return known
    if table not in known:
        raise ValueError(f"there is no table {table!r}; there are {', '.join(known)}")
    return {table: known[table]}


def _method_json(method: Method, coverage: Record | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "prototype": method.prototype,
        "row": method.row,
        "cells": {c.column: _cell_json(c, method, coverage) for c in method.cells},
        "declared_at": method.declared_at,
    }
    if coverage is not None:
        seen = coverage["methods"].get(method.id, {})
        shown["coverage"] = {"calls": seen.get("calls", 0), "by": sorted(seen.get("by", ()))}
    return shown


def _cell_json(cell: Cell, method: Method, coverage: Record | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"doc": cell.doc, "means": cell.means, "status": cell.status}
    if coverage is not None:
        id = f"{method.id}.{cell.column}"
        shown["checked"] = coverage["checked"].get(id, 0)
        shown["mutant"] = coverage["mutants"].get(id, "none")
    return shown


def _rule_json(id: str, coverage: Record | None) -> dict[str, Any]:
    rule = RULES[id]
    shown: dict[str, Any] = {
        "id": id,
        "text": rule.text,
        "applies_to": list(expanded(rule.applies_to)),
        "status": rule.status,
        "why": rule.why,
    }
    if coverage is not None:
        shown["checked"] = coverage["checked"].get(id, 0)
        if rule.status == "soft":
            shown["unheeded"] = coverage["unheeded"].get(id, 0)
        shown["mutant"] = coverage["mutants"].get(id, "none")
    return shown


def expanded(ids: Iterable[str]) -> Iterator[str]:
    """``TABLE.*`` as one id per method; ids of single methods as they are."""
    for id in ids:
        table, _, method = id.partition(".")
        if method == "*":
            yield from (m.id for m in listed(TABLES[table]))
        else:
            yield id


def rule_order(id: str) -> tuple[str, int, str]:
    """P before E, 9 before 10, 35 before 35a."""
    found = re.fullmatch(r"([A-Z]+)(\d+)(\w*)", id)
    assert found is not None, id
    return ({"P": "0", "E": "1"}.get(found[1], found[1]), int(found[2]), found[3])


# -- as text ---------------------------------------------------------------------------------------


def as_table(name: str, coverage: Record | None = None) -> str:
    """One table as the document prints it: a line per method, a column per lock.

    With ``coverage``, with the number of calls of each method and of checks of each cell, and
    whether its mutants were caught.
    """
    cls = _chosen(name)[name]
    rows = [["", *(c.title for c in cls.columns)]]
    bare = []
    for method in listed(cls):
        calls = f"  [{_calls(method, coverage)} calls]" if coverage is not None else ""
        if method.row:
            rows.append(
                [f"{method.name}:{calls}", *(_cell_text(c, method, coverage) for c in method.cells)]
            )
        else:
            bare.append(method.name + calls)
    lines = [name]
    if len(rows) > 1:
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        lines += [""]
        lines += [
            "  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip() for r in rows
        ]
    if cls.blanket:
        lines += ["", cls.blanket]
    if bare:
        lines += ["", *textwrap.wrap("no row: " + ", ".join(bare), 90)]
    if coverage is not None:
        lines += ["", _summary(cls, coverage)]
    return "\n".join(lines) + "\n"


def _summary(cls: type[Operations], coverage: Record) -> str:
    """How much of a table was covered, in a line."""
    methods = listed(cls)
    called = sum(_calls(m, coverage) > 0 for m in methods)
    cells = [c.rule for m in methods for c in m.cells if c.doc]
    line = f"called {called} of {len(methods)} methods"
    if cells:
        line += f"; {_checked_and_caught(cells, 'cells', coverage)}"
    return line


def _checked_and_caught(ids: Sequence[str], what: str, coverage: Record) -> str:
    checked = sum(coverage["checked"].get(id, 0) > 0 for id in ids)
    caught = sum(coverage["mutants"].get(id) == "caught" for id in ids)
    return f"checked {checked} of {len(ids)} {what}, caught the mutants of {caught}"


def _calls(method: Method, coverage: Record | None) -> int:
    return 0 if coverage is None else int(coverage["methods"].get(method.id, {}).get("calls", 0))


def _cell_text(cell: Cell, method: Method, coverage: Record | None) -> str:
    if coverage is None or not cell.doc:
        return cell.doc
    id = f"{method.id}.{cell.column}"
    mutant = f", {coverage['mutants'][id]}" if id in coverage["mutants"] else ""
    return f"{cell.doc} [{coverage['checked'].get(id, 0)}{mutant}]"


def as_text(table: str | None = None, coverage: Record | None = None) -> str:
    """All tables (or one), as the document prints them; with ``coverage``, how much of the prose is
    covered, too.
    """
    text = "\n".join(as_table(name, coverage) for name in _chosen(table))
    if coverage is None or table is not None:
        return text
    rules = [id for id, rule in RULES.items() if rule.status in (ENFORCED, ADAPTED)]
    return f"{text}\nprose\n\n{_checked_and_caught(rules, 'rules', coverage)}\n"


def as_markdown(table: str | None = None, coverage: Record | None = None) -> str:
    """Tables and rules as a Markdown page, with what each cell means."""
    lines = [f"# The locking contract\n\nAfter {SOURCE}.\n"]
    for name, cls in _chosen(table).items():
        titles = [c.title for c in cls.columns]
        lines.append(f"## {name}\n")
        if cls.blanket:
            lines.append(f"{cls.blanket}\n")
        lines += _markdown_rows(cls, titles, coverage)
    lines += ["## Rules\n", "| id | rule | applies to | status |", "| --- | --- | --- | --- |"]
    for rule in as_json(table)["rules"]:
        where = (
            ", ".join(rule["applies_to"])
            if len(rule["applies_to"]) < 8
            else rule["applies_to"][0].split(".")[0]
        )
        lines.append(f"| {rule['id']} | {_escaped(rule['text'])} | {where} | {rule['status']} |")
    return "\n".join(lines) + "\n"


def _markdown_rows(cls: type[Operations], titles: list[str], coverage: Record | None) -> list[str]:
    calls = ["calls"] if coverage is not None else []
    lines = [f"| method | {' | '.join([*map(_escaped, titles), 'checked', *calls])} |"]
    lines.append("| --- " * (len(titles) + 2 + len(calls)) + "|")
    for method in listed(cls):
        words = [_escaped(_cell_text(c, method, coverage)) for c in method.cells] or [""] * len(
            titles
        )
        means = "; ".join(f"{_escaped(c.means)} ({c.status})" for c in method.cells if c.doc)
        count = [str(_calls(method, coverage))] if coverage is not None else []
        lines.append(f"| `{method.name}` | {' | '.join([*words, means, *count])} |")
    return [*lines, ""]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# -- coverage --------------------------------------------------------------------------------------


def record() -> Record:
    """What this process has seen so far.  The kernel's own methods do not count."""
    methods: dict[str, dict[str, Any]] = {}
    checked: dict[str, int] = {id: r.checked for id, r in RULES.items() if r.checked}
    unheeded = {id: r.unheeded for id, r in RULES.items() if r.unheeded}
    for cls in tables().values():
        for method in listed(cls):
            sites = [s for s in method.sites if s.calls and s.blamed != KERNEL]
            calls = sum(s.calls for s in sites)
            if calls:
                methods[method.id] = {
                    "calls": calls,
                    "by": sorted({filesystem_of(s) for s in sites}),
                }
            _count(method, calls, sum(s.calls for s in method.sites), checked)
    found = {"methods": methods, "checked": checked, "unheeded": unheeded}
    return {"version": _VERSION, **found, "mutants": dict(_verdicts)}


_verdicts: dict[str, str] = {}
_thrown_away: list[Record] | None = None


def judged(verdicts: Mapping[str, str]) -> None:
    """Mutants were judged in this process: the record says so, for each cell and rule the worst."""
    for rule, verdict in verdicts.items():
        _verdicts[rule] = _worst(_verdicts.get(rule, "none"), verdict)


def _count(method: Method, calls: int, all_calls: int, checked: dict[str, int]) -> None:
    """Add how often each cell and annotation of a method was evaluated where it could have failed.

    An unconditional clause was evaluated by each call.  A promise that is not given counts as often
    as the call was made in the rarer of the two ways, with the lock and without.
    """
    best: dict[str, int] = {}
    for clause in method.clauses:
        n = _evaluated(method, clause, calls, all_calls)
        for id in _counted_as(clause):
            best[id] = max(best.get(id, 0), n)
    for id, n in best.items():
        if n:
            checked[id] = checked.get(id, 0) + n


def _counted_as(clause: Clause) -> list[str]:
    """What an evaluation of a clause counts for: its cell, and the prose rules it stands for."""
    if clause.cell is None:
        return [clause.rule]
    return [clause.cell.rule, *{r: None for r in (clause.rule, clause.cell.prose) if r in RULES}]


def _evaluated(method: Method, clause: Clause, calls: int, all_calls: int) -> int:
    if clause.kind is Kind.UNPROMISED:
        return min(clause.checked, max(all_calls - clause.checked, 0), calls)
    if clause.unless is not None:
        return calls - min(calls, sum(c.checked for c in method.of(Kind.NEVER)))
    if clause.when is None and clause.kind in (
        *ENTRY,
        Kind.NEVER,
        Kind.RELEASES,
        Kind.ALONE,
    ):
        return calls
    return clause.checked


def filesystem_of(site: Site) -> str:
    """The name under which a class's calls are counted.

    What the class says (``filesystem = "..."``), else the name of the one filesystem type that its
    module defines, else the module's own name.
    """
    cls: Any = site.cls
    if cls.filesystem:
        return str(cls.filesystem)
    if cls.__module__.startswith("vfsim.filesystems.") and cls.__module__.endswith("libfs"):
        return "libfs"
    names = {
        t.name
        for t in _below(TABLES.get("file_system_type"))
        if t.__module__ == cls.__module__ and t.name and "name" in vars(t)
    }
    return names.pop() if len(names) == 1 else str(cls.__module__.rpartition(".")[2])


def _below(cls: Any) -> Iterator[Any]:
    for heir in cls.__subclasses__() if cls is not None else ():
        yield heir
        yield from _below(heir)


def reset() -> None:
    """Forget all counts, for a fresh record."""
    if _thrown_away is not None:
        _thrown_away.append(record())
    _verdicts.clear()
    for rule in RULES.values():
        rule.checked = rule.unheeded = 0
    for cls in TABLES.values():
        for method in methods_of(cls).values():
            for site in method.sites:
                site.calls = 0
            for clause in method.clauses:
                clause.checked = 0


def empty() -> Record:
    """A record of nothing."""
    return {"version": _VERSION, "methods": {}, "checked": {}, "unheeded": {}, "mutants": {}}


def collect() -> None:
    """From now on keep what `reset` forgets, for `collected`: for runs in which many reset."""
    global _thrown_away
    _thrown_away = []


def collected() -> Record:
    """The record of everything since `collect`."""
    return merge([*(_thrown_away or ()), record()])


def _worst(one: str, other: str) -> str:
    return max(one, other, key=lambda v: _WORST.get(v, 2))


_WORST = {"none": 0, "caught": 1, "missed": 2}


def merge(records: Iterable[Record]) -> Record:
    """Several records as one: counts add up, names unite, a mutant missed anywhere is missed."""
    total = empty()
    for one in records:
        _valid(one)
        for id, seen in one["methods"].items():
            known = total["methods"].setdefault(id, {"calls": 0, "by": []})
            known["calls"] += seen["calls"]
            known["by"] = sorted({*known["by"], *seen["by"]})
        for counts in ("checked", "unheeded"):
            for id, n in one.get(counts, {}).items():
                total[counts][id] = total[counts].get(id, 0) + n
        for id, verdict in one["mutants"].items():
            total["mutants"][id] = _worst(total["mutants"].get(id, "none"), verdict)
    return total


def _valid(record: Any) -> None:
    if not isinstance(record, dict) or record.get("version") != _VERSION:
        raise ValueError("this is no coverage record of this version of vfsim")
    if not all(isinstance(record.get(k), dict) for k in ("methods", "checked", "mutants")):
        raise ValueError("this coverage record is damaged")


def write_record(name: str, record: Record, folder: Path = COVERAGE) -> Path:
    """Keep a record as ``folder/name.json``, in place of the last of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    scratch.replace(path)
    return path


def read_records(paths: Iterable[Path] = (COVERAGE,)) -> Record:
    """The sum of the records in these files and folders.

    Raises:
        ValueError: a file is no coverage record.  OSError: it cannot be read.
    """
    found = []
    for path in paths:
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            try:
                found.append(json.loads(file.read_text()))
                _valid(found[-1])
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
    return merge(found)
