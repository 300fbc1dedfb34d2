"""Dentries: names that are found, move, disappear, and are thrown away when nobody uses them."""

from __future__ import annotations

import errno
from stat import S_IFREG
from typing import Any

import pytest

from tests.fs.worlds import Plain, add, bugs, directory, explore, regular, root_of, run
from vfsim.checks.lifetime import is_freed
from vfsim.fs.d_walk import D_WALK_CONTINUE, D_WALK_QUIT, D_WALK_SKIP
from vfsim.fs.dcache import (
    Dentry,
    d_add,
    d_alloc,
    d_alloc_parallel,
    d_ancestor,
    d_delete,
    d_drop,
    d_exchange,
    d_find_alias,
    d_in_lookup,
    d_instantiate,
    d_invalidate,
    d_is_dir,
    d_is_negative,
    d_lookup,
    d_lookup_done,
    d_lookup_fast,
    d_move,
    d_prune_aliases,
    d_rehash,
    d_splice_alias,
    d_unhashed,
    d_unlinked,
    d_walk,
    dcache,
    dentry_path,
    dget,
    dget_parent,
    dput,
    is_subdir,
    prune_dcache_sb,
    shrink_dcache_parent,
    shrink_dcache_sb,
)
from vfsim.fs.dentry import hash_bucket
from vfsim.fs.iget import iget_locked, ilookup, unlock_new_inode
from vfsim.fs.inode import Inode, ihold, iput
from vfsim.fs.operations import DentryOperations
from vfsim.fs.super import SuperBlock
from vfsim.locks.rcu import rcu_barrier
from vfsim.sim.scheduler import msleep, yield_
from vfsim.sim.state import K

# -- finding ---------------------------------------------------------------------------------------


def test_what_was_added_is_found() -> None:
    """Positive and negative, under its parent and name only."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        assert d_lookup(root, "a") is None
        a = d_alloc(root, "a")
        assert d_unhashed(a) and d_lookup(root, "a") is None
        inode = regular(sb)
        d_add(a, inode)
        assert inode.i_count == 1, "the dentry has consumed the reference"
        assert d_lookup(root, "a") is a and a.d_lockref.count == 2
        assert d_lookup_fast(root, "a") is a
        assert d_lookup(root, "b") is None and d_lookup(a, "a") is None
        b = d_alloc(root, "b")
        d_add(b, None)
        assert d_lookup(root, "b") is b and d_is_negative(b)
        for dentry in (a, a, a, b, b):
            dput(dentry)

    run(work)


def test_a_negative_dentry_becomes_positive() -> None:
    """d_instantiate() after create(); twice is a hard bug."""

    def work(sb: SuperBlock) -> None:
        a = d_alloc(root_of(sb), "a")
        d_add(a, None)
        inode = directory(sb)
        d_instantiate(a, inode)
        assert d_is_dir(a) and inode.i_dentry == [a]
        assert d_find_alias(inode) is a
        dput(a)
        dput(a)

    run(work)

    def twice(sb: SuperBlock) -> None:
        a = add(root_of(sb), "a", regular(sb))
        d_instantiate(a, regular(sb))

    assert bugs(twice)[0].kind == "hard"


def test_names_have_places_and_paths() -> None:
    """Parents, ancestors and paths."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        d = add(root, "d", directory(sb))
        e = add(d, "e", directory(sb))
        assert dentry_path(e) == "/d/e" and dentry_path(root) == "/"
        assert d_ancestor(root, e) is d and d_ancestor(d, e) is e
        assert d_ancestor(e, d) is None and d_ancestor(e, e) is None
        assert is_subdir(e, d) and is_subdir(e, e) and not is_subdir(d, e)
        parent = dget_parent(e)
        assert parent is d
        for dentry in (parent, e, d):
            dput(dentry)

    run(work)


class IgnoreCase(DentryOperations):
    """Names that differ in case only are the same."""

    def d_hash(self, dentry: Dentry, name: str) -> str:
        return name.lower()

    def d_compare(self, dentry: Dentry, len: int, str: str, name: str) -> int:
        return int(str.lower() != name.lower())


def test_a_filesystem_says_which_names_are_equal() -> None:
    """d_hash() and d_compare() are asked, in all ways of looking."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        a = add(root, "ReadMe", regular(sb))
        assert d_lookup(root, "README") is a and a.d_name == "ReadMe"
        assert d_alloc_parallel(root, "readme") is a
        target = d_alloc(root, "OTHER")
        d_move(a, target)
        assert d_lookup(root, "other") is a and d_lookup(root, "readme") is None
        for dentry in (a, a, a, a, target):
            dput(dentry)

    run(work, fs=Plain(s_d_op=IgnoreCase()))


# -- lookups in progress ---------------------------------------------------------------------------


def look(sb: SuperBlock, name: str, asked: list[str]) -> Dentry:
    """What lookup_slow() does: ask the "filesystem" if nobody else is at it."""
    root = root_of(sb)
    assert root.d_inode is not None
    with root.d_inode.i_rwsem.shared():
        dentry = d_alloc_parallel(root, name)
        if d_in_lookup(dentry):
            asked.append(name)
            yield_()
            d_add(dentry, regular(sb) if name == "a" else None)
            d_lookup_done(dentry)
        return dentry


def test_a_name_is_looked_up_once() -> None:
    """Parallel lookups of one name ask the filesystem once; those of different names do not wait
    for each other.
    """

    def make() -> tuple[Any, ...]:
        asked: list[str] = []

        def first(sb: SuperBlock) -> tuple[Dentry, list[str]]:
            dentry = look(sb, "a", asked)
            msleep(1)
            dput(dentry)
            return dentry, asked

        def other(sb: SuperBlock) -> tuple[Dentry, list[str]]:
            dentry = look(sb, "b", asked)
            msleep(1)
            dput(dentry)
            return dentry, asked

        return first, first, other, first

    def check(results: list[Any]) -> None:
        (a1, asked), (a2, _), (b, _), (a3, _) = results
        assert a1 is a2 is a3 is not b
        assert sorted(asked) == ["a", "b"]

    explore(make, check)


def test_a_lookup_that_failed_is_repeated_by_those_who_waited() -> None:
    """d_lookup_done() without d_add(): the next one asks for itself."""

    def make() -> tuple[Any, ...]:
        asked: list[str] = []

        def failing(sb: SuperBlock) -> int:
            root = root_of(sb)
            assert root.d_inode is not None
            with root.d_inode.i_rwsem.shared():
                dentry = d_alloc_parallel(root, "a")
                assert d_in_lookup(dentry), "nobody ever added it"
                asked.append("a")
                yield_()
                d_lookup_done(dentry)
            dput(dentry)
            return len(asked)

        return failing, failing, failing

    explore(make, lambda results: None, schedules=100)


def test_lookup_and_rename_agree() -> None:
    """While "a" and "b" trade one dentry, a reader finds it under one of its names, never under a
    wrong one.
    """

    def make() -> tuple[Any, ...]:
        def mover(sb: SuperBlock) -> None:
            root = root_of(sb)
            a = add(root, "a", regular(sb))
            for name in ("b", "a", "b"):
                target = d_alloc(root, name)
                d_move(a, target)
                dput(target)
            dput(a)

        def reader(sb: SuperBlock) -> None:
            for name in ("a", "b", "a", "b"):
                dentry = d_lookup(root_of(sb), name)
                if dentry is not None:
                    dput(dentry)

        return mover, reader

    explore(make, lambda results: None)


# -- moving ----------------------------------------------------------------------------------------


def test_a_moved_dentry_takes_its_subtree_along() -> None:
    """It is found at its new place only; the target is left unhashed at the old one."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        d, e = add(root, "d", directory(sb)), add(root, "e", directory(sb))
        x = add(d, "x", directory(sb))
        y = add(x, "y", regular(sb))
        target = d_alloc(e, "z")
        d_move(x, target)
        assert dentry_path(y) == "/e/z/y" and d_lookup(e, "z") is x
        assert d_lookup(d, "x") is None and d_unhashed(target)
        assert target.d_parent is d and x.d_parent is e
        for dentry in (x, target, y, x, d, e):
            dput(dentry)

    run(work)


def test_two_dentries_trade_places() -> None:
    """d_exchange(): both stay hashed, each under the other's name."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        d = add(root, "d", directory(sb))
        a, b = add(root, "a", regular(sb)), add(d, "b", directory(sb))
        d_exchange(a, b)
        assert (dentry_path(a), dentry_path(b)) == ("/d/b", "/a")
        assert d_lookup(root, "a") is b and d_lookup(d, "b") is a
        for dentry in (a, a, b, b, d):
            dput(dentry)

    run(work)


def test_moving_into_oneself_is_a_hard_bug() -> None:
    """The caller must have looked."""

    def work(sb: SuperBlock) -> None:
        d = add(root_of(sb), "d", directory(sb))
        d_move(d, d_alloc(d, "x"))

    assert "moved into itself" in bugs(work)[0].summary


def test_a_directory_has_one_place() -> None:
    """d_splice_alias() of a directory that has a dentry moves that, and consumes the inode
    reference.
    """

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        inode = directory(sb)
        a = add(root, "a", inode)
        new = d_alloc(root, "b")
        ihold(inode)
        assert d_splice_alias(inode, new) is a
        assert inode.i_count == 1 and dentry_path(a) == "/b"
        assert d_unhashed(new) and d_lookup(root, "a") is None
        for dentry in (a, a, new):
            dput(dentry)
        negative = d_alloc(root, "n")
        assert d_splice_alias(None, negative) is None and not d_unhashed(negative)
        plain = d_alloc(root, "f")
        assert d_splice_alias(regular(sb), plain) is None
        dput(negative)
        dput(plain)

    run(work)


def test_a_directory_cannot_be_spliced_into_itself_nor_past_a_rename() -> None:
    """ELOOP, and ESTALE while somebody renames; the inode reference is consumed all the same."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        inode = directory(sb)
        a = add(root, "a", inode)
        d = add(root, "d", directory(sb))
        inside = d_alloc(a, "x")
        ihold(inode)
        with pytest.raises(OSError) as caught:
            d_splice_alias(inode, inside)
        assert caught.value.errno == errno.ELOOP
        elsewhere = d_alloc(d, "x")
        ihold(inode)
        sb.s_vfs_rename_mutex.lock()
        with pytest.raises(OSError) as caught:
            d_splice_alias(inode, elsewhere)
        sb.s_vfs_rename_mutex.unlock()
        assert caught.value.errno == errno.ESTALE
        assert inode.i_count == 1
        for dentry in (inside, elsewhere, a, d):
            dput(dentry)

    run(work)


# -- taking away -----------------------------------------------------------------------------------


def test_a_removed_name_turns_negative_or_hides() -> None:
    """d_delete(): negative for its only user, unhashed if others have it."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        a = add(root, "a", regular(sb))
        d_delete(a)
        assert d_is_negative(a) and d_lookup(root, "a") is a
        dput(a)
        dput(a)
        b = dget(add(root, "b", regular(sb)))
        d_delete(b)
        assert not d_is_negative(b) and d_unlinked(b) and d_lookup(root, "b") is None
        dput(b)
        dput(b)

    run(work)


def test_an_unhashed_dentry_dies_with_its_last_reference() -> None:
    """And takes along the parents that only it kept."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        before = root.d_lockref.count
        d = add(root, "d", directory(sb))
        x = add(d, "x", regular(sb))
        d_drop(d)
        dput(d)
        assert root.d_lockref.count == before + 1, "d lives: x is in it"
        d_drop(x)
        d_drop(x)
        dput(x)
        rcu_barrier()
        assert is_freed(x) and is_freed(d) and not root.d_subdirs

    run(work)


def test_an_unused_dentry_is_kept_until_memory_is_short() -> None:
    """On the LRU, with a second chance for those used lately."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        a = add(root, "a", regular(sb))
        dput(a)
        assert list(sb.s_dentry_lru) == [a] and a.d_lockref.count == 0
        assert prune_dcache_sb(sb, 10) == 0
        assert prune_dcache_sb(sb, 10) == 1
        assert d_lookup(root, "a") is None and not sb.s_dentry_lru
        b = add(root, "b", regular(sb))
        dput(b)
        b = d_lookup(root, "b") or b
        assert prune_dcache_sb(sb, 10) == 1 and not sb.s_dentry_lru, "in use: it comes back later"
        dput(b)
        assert list(sb.s_dentry_lru) == [b]
        shrink_dcache_sb(sb)
        assert not sb.s_dentry_lru

    run(work)


def test_shrinking_a_tree_leaves_what_is_used() -> None:
    """shrink_dcache_parent() takes unused branches whole."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        d = add(root, "d", directory(sb))
        e = add(d, "e", directory(sb))
        used, unused = add(e, "used", regular(sb)), add(e, "unused", regular(sb))
        dput(unused)
        dput(e)
        dput(d)
        shrink_dcache_parent(root)
        assert list(e.d_subdirs or ()) == [used]
        dput(used)
        shrink_dcache_parent(root)
        assert not root.d_subdirs

    run(work)


def test_an_invalid_tree_is_thrown_away() -> None:
    """d_invalidate() hides the dentry, used or not, and shrinks what is below."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        d = add(root, "d", directory(sb))
        dput(add(d, "x", regular(sb)))
        d_invalidate(d)
        assert d_unlinked(d) and not d.d_subdirs
        d_rehash(d)
        assert d_lookup(root, "d") is d
        d_invalidate(d)
        d_invalidate(d)
        dput(d)
        dput(d)
        negative = add(root, "n")
        d_invalidate(negative)
        assert d_unhashed(negative)
        dput(negative)

    run(work)


class Diary(DentryOperations):
    """Writes down how a dentry ends."""

    def __init__(self, log: list[str], keep: bool = True) -> None:
        self.log = log
        self.keep = keep

    def d_init(self, dentry: Dentry) -> None:
        self.log.append("init")

    def d_delete(self, dentry: Dentry) -> bool:
        self.log.append("delete?")
        return not self.keep

    def d_prune(self, dentry: Dentry) -> None:
        self.log.append("prune")

    def d_iput(self, dentry: Dentry, inode: Inode) -> None:
        self.log.append("iput")
        iput(inode)

    def d_release(self, dentry: Dentry) -> None:
        self.log.append("release")


def test_a_filesystem_sees_how_a_dentry_ends() -> None:
    """d_delete() decides at the last put; then d_prune(), d_iput(), d_release()."""
    log: list[str] = []

    def work(sb: SuperBlock) -> None:
        log.clear()
        a = add(root_of(sb), "a", regular(sb))
        dput(a)
        assert log == ["init", "delete?", "prune", "iput", "release"]

    run(work, fs=Plain(s_d_op=Diary(log, keep=False)))


# -- walking and leaking ---------------------------------------------------------------------------


def test_a_walk_visits_everything_once_parents_first() -> None:
    """Unless it is told to stop or to leave out a branch."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        d = add(root, "d", directory(sb))
        made = [
            d,
            add(d, "x", directory(sb)),
            add(root, "e", directory(sb)),
            add(d, "y", regular(sb)),
        ]
        answers: dict[str, int] = {}
        seen: list[str] = []

        def visit(dentry: Dentry) -> int:
            assert dentry.d_lock.owner is K.cur
            seen.append(dentry_path(dentry))
            return answers.get(dentry.d_name, D_WALK_CONTINUE)

        def walk(**told: int) -> list[str]:
            answers.clear()
            answers.update(told)
            seen.clear()
            d_walk(root, visit)
            return sorted(seen)

        assert walk() == ["/", "/d", "/d/x", "/d/y", "/e"]
        assert walk(d=D_WALK_SKIP) == ["/", "/d", "/e"]
        assert walk(d=D_WALK_QUIT) == ["/", "/d"]
        for dentry in made:
            dput(dentry)

    run(work)


def test_a_leaked_dentry_is_named_at_umount() -> None:
    """With its path; the inode that it keeps is not told again."""

    def work(sb: SuperBlock) -> None:
        d = add(root_of(sb), "d", directory(sb))
        add(d, "forgotten", regular(sb))
        dput(d)

    (found,) = bugs(work)
    assert found.rule == "leak.dentry" and "/d/forgotten" in found.summary


def test_dead_dentries_do_not_come_back() -> None:
    """dget() of one is a hard bug."""

    def work(sb: SuperBlock) -> None:
        a = add(root_of(sb), "a")
        d_drop(a)
        dput(a)
        dget(a)

    assert bugs(work)[0].kind == "hard"


class SlowRelease(DentryOperations):
    """Letting go of "a" takes a while."""

    def d_release(self, dentry: Dentry) -> None:
        if dentry.d_name == "a":
            msleep(5)


def test_a_dentry_on_a_list_of_victims_may_die_otherwise() -> None:
    """Then whoever has the list frees it, once, and nobody touches it too late."""
    seen: list[Dentry] = []

    def shrinker(sb: SuperBlock) -> None:
        root = root_of(sb)
        dput(add(root, "a", regular(sb)))
        b = add(root, "b", regular(sb))
        seen.append(b)
        dput(b)
        prune_dcache_sb(sb, 2)
        assert prune_dcache_sb(sb, 2) == 2  # kills "a", slowly, then comes to "b"
        rcu_barrier()
        assert is_freed(b)

    def killer(sb: SuperBlock) -> None:
        msleep(1)
        b = d_lookup(root_of(sb), "b")
        assert b is not None and b is seen[0]
        d_drop(b)
        dput(b)
        rcu_barrier()
        assert not is_freed(b)

    run(shrinker, killer, fs=Plain(s_d_op=SlowRelease()))


def test_users_movers_and_shrinkers_together() -> None:
    """Under every schedule the tree keeps its invariants and nothing freed is touched."""

    def make() -> tuple[Any, ...]:
        def user(sb: SuperBlock) -> None:
            asked: list[str] = []
            for name in ("a", "b", "a"):
                dput(look(sb, name, asked))

        def remover(sb: SuperBlock) -> None:
            root = root_of(sb)
            assert root.d_inode is not None
            for _ in range(2):
                with root.d_inode.i_rwsem:
                    a = d_lookup(root, "a")
                    if a is not None:
                        if a.d_inode is not None:
                            d_delete(a)
                        dput(a)

        def mover(sb: SuperBlock) -> None:
            root = root_of(sb)
            assert root.d_inode is not None
            with root.d_inode.i_rwsem:
                a = d_lookup(root, "a")
                if a is not None:
                    if a.d_inode is not None:
                        target = d_alloc(root, "c")
                        d_move(a, target)
                        dput(target)
                    dput(a)

        def shrinker(sb: SuperBlock) -> None:
            for _ in range(3):
                prune_dcache_sb(sb, 10)
                yield_()
            shrink_dcache_parent(root_of(sb))

        def dropper(sb: SuperBlock) -> None:
            for _ in range(3):
                a = d_lookup(root_of(sb), "a")
                if a is not None:
                    d_drop(a)
                    dput(a)

        return user, remover, mover, shrinker, dropper, user

    explore(make, lambda results: None, schedules=300)


def test_a_dentry_and_its_inode_meet_in_the_cache() -> None:
    """A cached inode gets its dentry back after that was thrown away."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        inode = iget_locked(sb, 500)
        unlock_new_inode(inode)
        dput(add(root, "a", inode))
        shrink_dcache_sb(sb)
        assert inode.i_count == 0 and not inode.i_dentry
        assert iget_locked(sb, 500) is inode
        dput(add(root, "a", inode))

    run(work)


def test_invariants_are_stated() -> None:
    """_check() finds what it says it finds."""

    def work(sb: SuperBlock) -> None:
        a = add(root_of(sb), "a", regular(sb))
        a._check()
        a.d_key = "b"
        with pytest.raises(AssertionError, match="not in the hash"):
            a._check()
        a.d_key = "a"
        assert a.d_inode is not None
        a.d_inode.i_dentry.clear()
        with pytest.raises(AssertionError, match="its inode does not know it"):
            a._check()
        a.d_inode.i_dentry.append(a)
        dput(a)

    run(work)


def test_a_reference_that_is_put_twice_is_noticed() -> None:
    """A dentry in the cache without references has none to put."""

    def work(sb: SuperBlock) -> None:
        dentry = add(root_of(sb), "a")
        dput(dentry)
        dput(dentry)

    assert [v.rule for v in bugs(work)] == ["lifetime.underflow"]


# -- what the fewest locks cost: buckets, retries, size --------------------------------------------


def test_names_share_buckets_not_directories() -> None:
    """The hash has one table of locks for all directories; a name's bucket is the same in every
    run, whatever Python's hashes are.
    """

    def work(sb: SuperBlock) -> list[int]:
        root = root_of(sb)
        for name in ("a", "b", "\udcff", "a" * 255):
            dput(add(root, name, regular(sb)))
        numbers = {lock: number for number, lock in dcache().buckets.items()}
        assert hash_bucket(root, "a") is not hash_bucket(root, "b")
        return [numbers[hash_bucket(root, name)] for name in ("a", "b", "\udcff", "a" * 255)]

    assert run(work) == run(work)


def test_unused_aliases_can_be_thrown_away() -> None:
    """d_prune_aliases() takes the unused names of a file and leaves the others."""

    def work(sb: SuperBlock) -> None:
        root = root_of(sb)
        inode = regular(sb)
        names = []
        for name in "abc":
            ihold(inode)
            names.append(add(root, name, inode))
        dput(names[0])
        dput(names[2])
        d_prune_aliases(inode)
        assert inode.i_dentry == [names[1]] and d_lookup(root, "a") is None
        dput(names[1])
        d_prune_aliases(inode)
        assert inode.i_dentry == [] and inode.i_count == 1
        iput(inode)

    run(work)


@pytest.mark.parametrize("strategy", ["pos", "pct", "random"])
def test_who_retries_gets_there(strategy: str) -> None:
    """Last puts, d_delete(), pruning of aliases and the shrink list all try locks against their
    order; whoever holds those, each comes to its end.
    """
    for seed in range(60):

        def deleter(sb: SuperBlock) -> None:
            inode = iget_locked(sb, 500)
            inode.i_mode = S_IFREG | 0o644
            unlock_new_inode(inode)
            a = add(root_of(sb), "a", inode)
            yield_()
            d_delete(a)
            dput(a)

        def finder(sb: SuperBlock) -> None:
            for _ in range(4):
                if (inode := ilookup(sb, 500)) is not None:
                    dput(d_find_alias(inode))
                    d_prune_aliases(inode)
                    iput(inode)
                dentry = d_lookup(root_of(sb), "b")
                if dentry is not None:
                    d_drop(dentry)
                    dput(dentry)

        def shrinker(sb: SuperBlock) -> None:
            dput(add(root_of(sb), "b", regular(sb)))
            for _ in range(2):
                prune_dcache_sb(sb, 10)
                shrink_dcache_sb(sb)

        run(deleter, finder, finder, shrinker, seed=seed, strategy=strategy, max_steps=20_000)


def test_a_lookup_costs_the_same_in_a_big_cache() -> None:
    """Steps per component, from a hundred names to ten thousand; and a put, and a prune."""

    def steps(count: int) -> list[int]:
        def work(sb: SuperBlock) -> list[int]:
            root = root_of(sb)
            d = add(root, "d", directory(sb))
            for i in range(count):
                dput(add(d, str(i), regular(sb)))
            found = []
            machine = K.machine
            for name in ("0", str(count // 2), str(count - 1)):
                before = machine.steps + machine.armed - K.left
                dput(d_lookup(d, name))
                found.append(machine.steps + machine.armed - K.left - before)
            before = machine.steps + machine.armed - K.left
            prune_dcache_sb(sb, 10)
            found.append(machine.steps + machine.armed - K.left - before)
            shrink_dcache_parent(d)
            dput(d)
            return found

        (found,) = run(work)
        return list(found)

    assert steps(100) == steps(10_000)
