"""A contract-checked call of an operation, against a bare one."""

from __future__ import annotations

from time import process_time
from typing import Any

from benchmarks.engine import in_task
from benchmarks.measure import Case
from vfsim.locks.rwsem import RwSem


class Node:
    """What the operation is about: an inode with a lock."""

    __slots__ = ("i_op", "i_rwsem")

    def __init__(self, i_op: Any) -> None:
        self.i_op = i_op
        self.i_rwsem = RwSem("benchmark")


def cases() -> list[Case]:
    """The checked call, if the contract mechanism is there."""
    try:
        from vfsim.checks.contract import Operations
        from vfsim.checks.rules import Lock, row
    except ImportError:
        return []

    class BenchmarkOperations(Operations):
        """One method, called with the directory locked."""

        table = "benchmark_operations"
        columns = (Lock("i_rwsem", "dir.i_rwsem"),)

        @row("yes")
        def lookup(self, dir: Node, dentry: Node, flags: int) -> None: ...

    class Checked(BenchmarkOperations):
        def lookup(self, dir: Node, dentry: Node, flags: int) -> None:
            return None

    def checked(n: int) -> float:
        inode = Node(Checked())
        directory = dentry = inode
        with directory.i_rwsem:
            start = process_time()
            for _ in range(n):
                inode.i_op.lookup(directory, dentry, 0)
            return process_time() - start

    return [Case("contract-checked call", "C", 4.0, in_task(checked))]
