"""Inodes and their cache: one live inode per number, references, eviction."""

from __future__ import annotations

from stat import S_IFDIR, S_IFREG, S_ISGID
from typing import Any

import pytest

from tests.fs.worlds import Plain, PlainSuper, bugs, directory, explore, regular, root_of, run
from vfsim.checks.lifetime import is_freed
from vfsim.fs.icache import hash_add
from vfsim.fs.iget import (
    iget5_locked,
    iget_failed,
    iget_locked,
    ilookup,
    ilookup5,
    insert_inode_locked,
    unlock_new_inode,
)
from vfsim.fs.inode import (
    I_CLEAR,
    I_FREEING,
    I_MUTEX_NONDIR2,
    I_NEW,
    Inode,
    clear_inode,
    clear_nlink,
    drop_nlink,
    generic_delete_inode,
    icache,
    igrab,
    ihold,
    inc_nlink,
    inode_init_owner,
    insert_inode_hash,
    iput,
    lock_two_nondirectories,
    new_inode,
    prune_icache_sb,
    remove_inode_hash,
    set_nlink,
    truncate_inode_pages_final,
    unlock_two_nondirectories,
)
from vfsim.fs.super import SuperBlock
from vfsim.locks.rcu import rcu_barrier
from vfsim.sim.context import SUBCLASS_SHIFT, held_entries
from vfsim.sim.scheduler import msleep, yield_
from vfsim.sim.state import K


def got(sb: SuperBlock, ino: int) -> Inode:
    """An inode from the cache, made a regular file if it is new."""
    inode = iget_locked(sb, ino)
    if inode.i_state & I_NEW:
        inode.i_mode = S_IFREG | 0o644
        unlock_new_inode(inode)
    return inode


# -- making ----------------------------------------------------------------------------------------


def test_a_new_inode_is_the_callers_alone() -> None:
    """It has one reference, one link, a number of its own, and nobody can find it."""

    def work(sb: SuperBlock) -> None:
        inode = new_inode(sb)
        assert (inode.i_count, inode.i_nlink, inode.i_state) == (1, 1, 0)
        assert inode in sb.s_inodes and not inode.i_hashed
        assert ilookup(sb, inode.i_ino) is None
        other = new_inode(sb)
        assert other.i_ino != inode.i_ino
        iput(inode)
        iput(other)
        assert list(sb.s_inodes) == [root_of(sb).d_inode]

    run(work)


def test_an_inode_without_pages_has_no_page_cache() -> None:
    """Asking for i_mapping makes one, once."""

    def work(sb: SuperBlock) -> None:
        inode = new_inode(sb)
        assert not inode.has_pages
        assert inode.i_mapping is inode.i_data and inode.i_mapping.host is inode
        assert inode.has_pages
        iput(inode)

    run(work)


def test_group_and_setgid_are_inherited() -> None:
    """A directory with the set-group-ID bit gives its group away, and the bit to directories."""

    def work(sb: SuperBlock) -> None:
        parent = directory(sb)
        parent.i_gid = 7
        parent.i_mode |= S_ISGID
        for mode, expected in (
            (S_IFREG | 0o644, S_IFREG | 0o644),
            (S_IFDIR | 0o755, S_IFDIR | S_ISGID | 0o755),
        ):
            inode = new_inode(sb)
            inode_init_owner(inode, parent, mode)
            assert (inode.i_gid, inode.i_mode) == (7, expected)
            iput(inode)
        iput(parent)

    run(work)


def test_directories_have_a_lock_class_of_their_own() -> None:
    """As soon as the kernel knows that an inode is a directory."""

    def work(sb: SuperBlock) -> None:
        inode = iget_locked(sb, 500)
        assert inode.i_rwsem.name == "i_rwsem:plain"
        inode.i_mode = S_IFDIR
        unlock_new_inode(inode)
        assert inode.i_rwsem.name == "i_rwsem_dir:plain"
        iput(inode)
        made = directory(sb)
        assert made.i_rwsem.name == "i_rwsem_dir:plain"
        iput(made)

    run(work)


# -- the cache -------------------------------------------------------------------------------------


def test_the_cache_gives_the_same_inode_again() -> None:
    """iget_locked() makes an inode once, ilookup() finds it, and unused it stays."""

    def work(sb: SuperBlock) -> None:
        assert ilookup(sb, 500) is None
        inode = iget_locked(sb, 500)
        assert inode.i_state == I_NEW
        unlock_new_inode(inode)
        assert iget_locked(sb, 500) is inode and inode.i_count == 2
        iput(inode)
        iput(inode)
        assert inode in sb.s_inode_lru and inode.i_count == 0
        assert ilookup(sb, 500) is inode and inode.i_count == 1
        iput(inode)

    run(work)


def test_one_of_many_fills_a_new_inode() -> None:
    """Under every schedule exactly one task sees I_NEW, and all get the same, filled-in inode."""

    def make() -> tuple[Any, ...]:
        filled: list[int] = []

        def reader(sb: SuperBlock) -> tuple[Inode, int, int]:
            inode = iget_locked(sb, 500)
            if inode.i_state & I_NEW:
                filled.append(1)
                yield_()
                inode.i_mode = S_IFREG | 0o644
                unlock_new_inode(inode)
            mode = inode.i_mode
            msleep(1)
            iput(inode)
            return inode, mode, len(filled)

        return reader, reader, reader

    def check(results: list[Any]) -> None:
        inodes, modes, filled = zip(*results, strict=True)
        assert len(dict.fromkeys(inodes)) == 1
        assert set(modes) == {S_IFREG | 0o644} and set(filled) == {1}

    explore(make, check)


def test_a_failed_fill_is_tried_again_by_those_who_waited() -> None:
    """Nobody gets an inode that iget_failed() threw away."""

    def make() -> tuple[Any, ...]:
        tries: list[Inode] = []

        def reader(sb: SuperBlock) -> Inode:
            inode = iget_locked(sb, 500)
            while inode.i_state & I_NEW:
                tries.append(inode)
                if len(tries) > 1:
                    unlock_new_inode(inode)
                    break
                yield_()
                iget_failed(inode)
                inode = iget_locked(sb, 500)
            assert inode is not tries[0] and inode.i_hashed
            msleep(1)
            iput(inode)
            return inode

        return reader, reader

    explore(make, lambda results: None)


class SlowEvict(PlainSuper):
    """Eviction takes a while, and is written down."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def drop_inode(self, inode: Inode) -> bool:
        return generic_delete_inode(inode)

    def evict_inode(self, inode: Inode) -> None:
        self.log.append(f"evicting {inode.i_ino}")
        msleep(5)
        truncate_inode_pages_final(inode)
        clear_inode(inode)
        self.log.append(f"evicted {inode.i_ino}")


def test_a_dying_inode_is_waited_for() -> None:
    """Whoever asks for the number of an inode being freed gets a fresh one, after the old one is
    gone.
    """
    log: list[str] = []

    def leaver(sb: SuperBlock) -> None:
        inode = iget_locked(sb, 500)
        unlock_new_inode(inode)
        iput(inode)

    def comer(sb: SuperBlock) -> None:
        msleep(1)
        assert icache().inode_hashtable[sb][500].i_state & I_FREEING
        inode = iget_locked(sb, 500)
        log.append("got another")
        assert inode.i_state & I_NEW
        unlock_new_inode(inode)
        iput(inode)

    run(leaver, comer, fs=Plain(SlowEvict(log)))
    assert log[:3] == ["evicting 500", "evicted 500", "got another"]


def test_numbers_are_never_shared() -> None:
    """insert_inode_locked() refuses the number of a live inode, and waits for a dying one."""

    def make() -> tuple[Any, ...]:
        alive: list[Inode] = []

        def inserter(sb: SuperBlock) -> str:
            inode = new_inode(sb)
            inode.i_ino = 500
            try:
                insert_inode_locked(inode)
            except OSError:
                iput(inode)
                return "busy"
            assert not alive
            alive.append(inode)
            unlock_new_inode(inode)
            yield_()
            alive.remove(inode)
            iput(inode)
            return "inserted"

        return inserter, inserter

    def check(results: list[str]) -> None:
        assert "inserted" in results

    explore(make, check, fs=Plain(SlowEvict([])))


def test_inodes_that_a_hash_value_does_not_tell_apart() -> None:
    """iget5_locked() asks the filesystem which one it is; a refusal leaves nothing behind."""

    def get(sb: SuperBlock, name: str) -> Inode:
        def name_it(inode: Inode) -> None:
            if name == "bad":
                raise OSError(5, "bad")
            inode.i_private = name
            inode.i_ino = len(name)

        inode = iget5_locked(sb, 7, lambda inode: bool(inode.i_private == name), name_it)
        if inode.i_state & I_NEW:
            unlock_new_inode(inode)
        return inode

    def work(sb: SuperBlock) -> None:
        a, bb = get(sb, "a"), get(sb, "bb")
        assert a is not bb and a.i_hash == bb.i_hash == 7
        assert get(sb, "a") is a and ilookup5(sb, 7, lambda i: bool(i.i_private == "bb")) is bb
        assert ilookup5(sb, 7, lambda i: bool(i.i_private == "c")) is None
        with pytest.raises(OSError, match="bad"):
            get(sb, "bad")
        for inode in (a, a, bb, bb):
            iput(inode)

    run(work)


def test_one_of_many_makes_an_inode_that_a_test_tells() -> None:
    """However iget5_locked() meets itself, eviction and memory pressure: one live inode each."""

    def make() -> tuple[Any, ...]:
        used: dict[str, list[Inode]] = {"a": [], "bb": []}

        def user(name: str) -> Any:
            def work(sb: SuperBlock) -> None:
                for _ in range(2):
                    inode = iget5_locked(
                        sb,
                        7,
                        lambda inode: bool(inode.i_private == name),
                        lambda inode: setattr(inode, "i_private", name),
                    )
                    if inode.i_state & I_NEW:
                        inode.i_ino = len(name)
                        unlock_new_inode(inode)
                    used[name].append(inode)
                    yield_()
                    assert all(other is inode for other in used[name]), "two at a time"
                    used[name].remove(inode)
                    iput(inode)

            return work

        return user("a"), user("a"), user("bb"), lambda sb: prune_icache_sb(sb, 10)

    explore(make, lambda results: None, schedules=80)
    explore(make, lambda results: None, schedules=80, fs=Plain(SlowEvict([])))


def test_an_unfilled_inode_that_nobody_unlocks_is_a_hang_with_a_culprit() -> None:
    """The wait names who should have called unlock_new_inode()."""

    def forgetful(sb: SuperBlock) -> None:
        iget_locked(sb, 500)

    def waiter(sb: SuperBlock) -> None:
        iget_locked(sb, 500)

    found = bugs(forgetful, waiter)
    assert found and "forgetful" in " ".join((found[0].summary, *found[0].details))


# -- the end ---------------------------------------------------------------------------------------


def test_what_the_last_reference_decides() -> None:
    """Hashed inodes with links stay; those without, and unhashed ones, go at once."""

    def work(sb: SuperBlock) -> None:
        kept = got(sb, 500)
        iput(kept)
        assert kept in sb.s_inodes
        unlinked = got(sb, 501)
        clear_nlink(unlinked)
        iput(unlinked)
        unhashed = got(sb, 502)
        remove_inode_hash(unhashed)
        iput(unhashed)
        assert list(sb.s_inodes) == [root_of(sb).d_inode, kept]

    run(work)


def test_freed_memory_is_poisoned_after_a_grace_period() -> None:
    """An evicted inode can be looked at by RCU readers only, until the grace period is over."""

    def work(sb: SuperBlock) -> None:
        inode = new_inode(sb)
        iput(inode)
        rcu_barrier()
        assert is_freed(inode)

    run(work)


@pytest.mark.parametrize("rule", ["lifetime.underflow", "lifetime.use-after-free"])
def test_a_reference_too_few_is_a_hard_bug(rule: str) -> None:
    """Putting a cached inode twice, or one that is gone."""

    def work(sb: SuperBlock) -> None:
        inode = got(sb, 500) if rule == "lifetime.underflow" else new_inode(sb)
        iput(inode)
        rcu_barrier()
        iput(inode)

    (found,) = bugs(work)
    assert (found.rule, found.kind) == (rule, "hard")


def test_ihold_needs_a_reference() -> None:
    """An unused inode is taken with igrab(), not with ihold()."""

    def work(sb: SuperBlock) -> None:
        inode = got(sb, 500)
        iput(inode)
        assert igrab(inode) is inode
        iput(inode)
        ihold(inode)

    (found,) = bugs(work)
    assert found.rule == "lifetime.inc-from-zero"


def test_igrab_refuses_a_dying_inode() -> None:
    """It returns None from the moment eviction has begun."""
    log: list[str] = []

    def leaver(sb: SuperBlock) -> None:
        inode = got(sb, 500)
        iput(inode)

    def grabber(sb: SuperBlock) -> None:
        msleep(1)
        inode = icache().inode_hashtable[sb][500]
        assert igrab(inode) is None

    run(leaver, grabber, fs=Plain(SlowEvict(log)))


class Forgetful(PlainSuper):
    """Eviction that leaves the last step out."""

    def evict_inode(self, inode: Inode) -> None:
        truncate_inode_pages_final(inode)


def test_evict_inode_must_clear() -> None:
    """E10: leaving out clear_inode() is the filesystem's bug."""
    found = bugs(lambda sb: iput(new_inode(sb)), fs=Plain(Forgetful()))
    assert found[0].rule == "E10" and "Forgetful" in found[0].blamed


def test_clear_inode_twice_is_a_hard_bug() -> None:
    """And so is clearing an inode that is in use."""

    def work(sb: SuperBlock) -> None:
        inode = new_inode(sb)
        clear_inode(inode)

    (found,) = bugs(work)
    assert found.kind == "hard" and "not being freed" in found.summary


def test_a_forgotten_reference_is_a_leak_at_umount() -> None:
    """The report names the inode."""
    numbers: list[int] = []

    def work(sb: SuperBlock) -> None:
        numbers.append(new_inode(sb).i_ino)

    (found,) = bugs(work)
    assert (found.rule, found.kind) == ("leak.inode", "leak")
    assert f"inode {numbers[0]} of plain" in found.summary


def test_lookup_against_last_put() -> None:
    """However iput() and iget_locked() meet, there is one live inode per number and nothing is used
    after it was freed.
    """

    def make() -> tuple[Any, ...]:
        def user(sb: SuperBlock) -> None:
            for _ in range(3):
                inode = got(sb, 500)
                assert inode.i_mode == S_IFREG | 0o644
                iput(inode)

        return user, user

    class DropAtOnce(PlainSuper):
        def drop_inode(self, inode: Inode) -> bool:
            return True

    explore(make, lambda results: None, schedules=80, fs=Plain(DropAtOnce()))
    explore(make, lambda results: None, schedules=80)


def test_memory_pressure_gives_a_second_chance() -> None:
    """prune_icache_sb() passes over what was used since it last came, then takes it."""

    def work(sb: SuperBlock) -> None:
        inode = got(sb, 500)
        iput(inode)
        assert prune_icache_sb(sb, 10) == 0
        assert prune_icache_sb(sb, 10) == 1
        assert ilookup(sb, 500) is None

    run(work)


def test_memory_pressure_against_users() -> None:
    """Whoever is faster, nobody gets a dying inode."""

    def make() -> tuple[Any, ...]:
        def user(sb: SuperBlock) -> None:
            for _ in range(3):
                iput(got(sb, 500))

        def shrinker(sb: SuperBlock) -> None:
            for _ in range(4):
                prune_icache_sb(sb, 10)
                yield_()

        return user, shrinker

    explore(make, lambda results: None, schedules=80)


# -- links and locks -------------------------------------------------------------------------------


def test_links_are_counted_and_watched() -> None:
    """The superblock knows how many unlinked inodes there are; below zero is a bug, and so is
    coming back.
    """

    def work(sb: SuperBlock) -> None:
        inode = new_inode(sb)
        inc_nlink(inode)
        assert inode.i_nlink == 2
        drop_nlink(inode)
        drop_nlink(inode)
        assert (inode.i_nlink, sb.s_remove_count) == (0, 1)
        set_nlink(inode, 3)
        assert (inode.i_nlink, sb.s_remove_count) == (3, 0)
        clear_nlink(inode)
        iput(inode)

    run(work)

    def too_far(sb: SuperBlock) -> None:
        inode = new_inode(sb)
        drop_nlink(inode)
        drop_nlink(inode)
        inc_nlink(inode)
        iput(inode)

    found = bugs(too_far)
    assert [v.rule for v in found][:1] == ["inode.nlink"]


def test_two_files_are_locked_in_address_order() -> None:
    """Whatever the order of the arguments; directories and None are left out."""

    def work(sb: SuperBlock) -> None:
        a, b, d = regular(sb), regular(sb), directory(sb)
        for pair in ((a, b), (b, a)):
            lock_two_nondirectories(*pair)
            locks = [
                (lock, key >> SUBCLASS_SHIFT & 7) for lock, key in reversed(held_entries(K.cur))
            ]
            assert locks == [(a.i_rwsem, 0), (b.i_rwsem, I_MUTEX_NONDIR2)]
            unlock_two_nondirectories(*pair)
        for pair in ((a, d), (d, None), (a, a)):
            lock_two_nondirectories(*pair)
            assert not d.i_rwsem.is_locked()
            unlock_two_nondirectories(*pair)
        for inode in (a, b, d):
            assert not inode.i_rwsem.is_locked()
            iput(inode)

    run(work)


def test_invariants_are_stated() -> None:
    """_check() finds what it says it finds."""

    def work(sb: SuperBlock) -> None:
        inode = got(sb, 500)
        inode._check()
        inode.i_state |= I_CLEAR
        with pytest.raises(AssertionError, match="cleared but not being freed"):
            inode._check()
        inode.i_state &= ~I_CLEAR
        other = new_inode(sb)
        other.i_ino = 501
        insert_inode_hash(other)
        remove_inode_hash(other)
        other.i_ino = 500
        cache = icache()
        with cache.inode_hash_lock:
            hash_add(cache, other, 500)
        with pytest.raises(AssertionError, match="two inodes of number 500"):
            icache()._check()
        remove_inode_hash(other)
        iput(other)
        iput(inode)

    run(work)
