"""What `vfsim check --audit` makes visible: the classes and the private slots of a filesystem.

A filesystem's classes are those that its own file defines, and the files that it imports and that
belong neither to Python, nor to an installed package, nor to vfsim.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vfsim.checks.audit import Audit
from vfsim.explore.identity import foreign
from vfsim.fs.dentry import Dentry
from vfsim.fs.file import File
from vfsim.fs.inode import Inode
from vfsim.fs.super import SuperBlock

if TYPE_CHECKING:
    from vfsim.fs.operations import FileSystemType

SLOTS: list[tuple[type, str]] = [
    (Inode, "i_private"),
    (SuperBlock, "s_fs_info"),
    (Dentry, "d_fsdata"),
    (File, "private_data"),
]
"""The places where the kernel keeps what belongs to the filesystem."""

_audits: dict[type, Audit] = {}


def audit_of(filesystem: type[FileSystemType]) -> Audit:
    """The audit of a filesystem: always the same one, so that it is put on once."""
    found = _audits.get(filesystem)
    if found is None:
        found = _audits[filesystem] = Audit(classes_of(filesystem), SLOTS)
    return found


def classes_of(filesystem: type) -> list[type]:
    """The classes that a filesystem's own files define, in the order in which they are met."""
    modules = {filesystem.__module__: sys.modules[filesystem.__module__]}
    found: dict[type, None] = {}
    for module in _with_own(modules):
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                found[value] = None
    return list(found)


def _with_own(modules: dict[str, ModuleType]) -> list[ModuleType]:
    """The modules, and those they use that are nobody else's."""
    queue = list(modules.values())
    for module in queue:
        for value in list(vars(module).values()):
            used: Any = value if isinstance(value, ModuleType) else _home(value)
            path = getattr(used, "__file__", None)
            if path and used.__name__ not in modules and not foreign(path):
                modules[used.__name__] = used
                queue.append(used)
    return queue


def _home(value: Any) -> ModuleType | None:
    name = getattr(value, "__module__", "")
    return sys.modules.get(name) if isinstance(name, str) else None
