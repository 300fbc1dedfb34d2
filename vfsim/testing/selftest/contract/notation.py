"""The document's words as mutants: what "yes", "no" and "maybe" in a cell can be broken by.

============  ==================================  ==============================================
word          the caller's mistake                the filesystem's
============  ==================================  ==============================================
yes           calls without the lock, or shared   lets go of the lock inside
              where exclusive is meant
no            calls with the lock                 returns with the lock, or states that it is
                                                  held
maybe         (none: both are allowed)            states that it is held
not promised  (none: callers do both)             the same; or lets go of the lock of a caller
                                                  that has it
may block     calls with a spinlock held          (none)
may not       (none)                              sleeps
rcu-walk no   calls in an RCU read section        returns in one, or states that it is in one
rcu-walk      (none: both are allowed)            leaves its caller's, or states that it is in one
maybe
============  ==================================  ==============================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vfsim.testing.selftest import changes
from vfsim.testing.selftest.mutants import Ground, Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfsim.fs.operations import FileSystemType
    from vfsim.testing.selftest.changes import Change
    from vfsim.testing.selftest.mutants import Program


@attrs.frozen
class Row:
    """One method of one table, and a program that makes the kernel call it.

    Attributes:
        variant: put behind the ids, for a second program or lock of the same cell.
    """

    table: str
    method: str
    program: Program
    ground: type[FileSystemType] = Ground
    variant: str = ""

    def _rule(self, column: str, rule: str) -> str:
        return rule or f"{self.table}.{self.method}.{column}"

    def caller(
        self, rule: str, why: str, change: Change, variant: str = "", **other: Any
    ) -> Mutant:
        """The call is changed."""
        return self._mutant(rule, "caller", why, variant, around={self.name: change}, **other)

    def filesystem(
        self, rule: str, why: str, change: Change, variant: str = "", **other: Any
    ) -> Mutant:
        """The method is changed."""
        return self._mutant(rule, "filesystem", why, variant, inside={self.name: change}, **other)

    @property
    def name(self) -> str:
        """``TABLE.METHOD``."""
        return f"{self.table}.{self.method}"

    def _mutant(self, rule: str, side: str, why: str, variant: str, **other: Any) -> Mutant:
        words = ".".join(filter(None, (self.variant, variant)))
        given = {"program": self.program, "ground": self.ground, "variant": words, **other}
        return Mutant(rule, side, f"{self.method}() {why}", **given)

    # -- locks -------------------------------------------------------------------------------------

    def yes(
        self, column: str, path: str, rule: str = "", *, rwsem: bool = True, **other: Any
    ) -> Iterator[Mutant]:
        """The caller holds the lock, exclusive."""
        yield from self.shared(column, path, rule, **other)
        if rwsem:
            yield self.caller(
                self._rule(column, rule), f"is called with {path} held shared only",
                changes.shared_only(path), "shared", **other,
            )  # fmt: skip

    def shared(self, column: str, path: str, rule: str = "", **other: Any) -> Iterator[Mutant]:
        """The caller holds the lock, in any mode."""
        wanted = self._rule(column, rule)
        yield self.caller(wanted, f"is called without {path}", changes.without(path), **other)
        yield self.filesystem(wanted, f"lets go of {path}", changes.without(path), **other)

    def no(
        self, column: str, path: str, rule: str = "", *, rwsem: bool = False, **other: Any
    ) -> Iterator[Mutant]:
        """The caller does not hold the lock, in no mode."""
        wanted = self._rule(column, rule)
        yield self.caller(wanted, f"is called with {path}", changes.holding(path), **other)
        if rwsem:
            yield self.caller(
                wanted, f"is called with {path} shared", changes.holding(path, shared=True),
                "shared", **other,
            )  # fmt: skip
        yield self.filesystem(wanted, f"returns with {path}", changes.keeping(path), **other)
        yield from self.maybe(column, path, rule, variant="asserts", **other)

    def maybe(
        self, column: str, path: str, rule: str = "", variant: str = "", **other: Any
    ) -> Iterator[Mutant]:
        """The lock is not promised."""
        yield self.filesystem(
            self._rule(column, rule), f"asserts {path}", changes.asserting(path), variant, **other
        )

    def not_promised(self, column: str, path: str) -> Iterator[Mutant]:
        """The lock is not promised, and in the program the caller has it."""
        yield from self.maybe(column, path)
        yield self.filesystem(
            self._rule(column, ""), f"lets go of {path}", changes.dropping(path), "drops"
        )

    # -- sleeping ----------------------------------------------------------------------------------

    def may_block(self, column: str = "", rule: str = "", variant: str = "") -> Iterator[Mutant]:
        """The method may sleep, so it is called where that is allowed."""
        wanted = self._rule(column, rule)
        yield self.caller(wanted, "is called with a spinlock held", changes.atomic(), variant)

    def never_blocks(self, column: str = "", rule: str = "", **other: Any) -> Iterator[Mutant]:
        """The method must not sleep."""
        yield self.filesystem(self._rule(column, rule), "sleeps", changes.sleeping(), **other)

    # -- rcu-walk ----------------------------------------------------------------------------------

    def not_in_rcu_walk(self, column: str) -> Iterator[Mutant]:
        """The method is not called by a walk that holds the RCU read lock only."""
        wanted = self._rule(column, "")
        yield self.caller(wanted, "is called in an RCU read section", changes.in_rcu())
        yield self.filesystem(wanted, "returns in an RCU read section", changes.staying_in_rcu())
        yield self._asserts_rcu(wanted)

    def maybe_in_rcu_walk(self, column: str) -> Iterator[Mutant]:
        """The method is called by such a walk, too, and its read section is not the method's."""
        wanted = self._rule(column, "")
        yield self.filesystem(wanted, "leaves the walk's read section", changes.outside_rcu())
        yield self._asserts_rcu(wanted)

    def _asserts_rcu(self, rule: str) -> Mutant:
        why = "asserts that it is in an RCU read section"
        return self.filesystem(rule, why, changes.asserting_rcu(), "asserts")
