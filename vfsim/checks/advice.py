"""What the rules of this floor say, and what to do when one is broken: the words of reports.

The rules of the locking document are not here: they stand in the contract's tables, and reports
quote them from there.
"""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    """A rule in a sentence, and what to try."""

    rule: str
    todo: str


_ADVICE = {
    "*.exit": Advice(
        "A method returns, or raises, with exactly the locks held that were held when it was "
        "called, except those that the contract says it takes or releases.",
        "Look for a path, usually one that raises, without the unlock; `with lock:` covers "
        "all of them.",
    ),
    "lockdep.recursion": Advice(
        "A lock is not taken twice by one task: the second time waits for the first.  Two "
        "locks of one class count as one, unless their order is fixed and the inner one is "
        "taken with a subclass.",
        "Take it once, in the outermost function that needs it; let the inner ones state that "
        "it is held.",
    ),
    "lockdep.circular": Advice(
        "Locks are taken in one order everywhere: if A is ever held when B is taken, then B "
        "is never held when A is taken, also not by way of others.",
        "Decide which comes first and change the other place; or let go of the first before "
        "taking the second.",
    ),
    "lockdep.irq-inversion": Advice(
        "A lock that an interrupt takes is held only with that interrupt turned off on this "
        "CPU; so is everything that is waited for while holding it.",
        "Use lock_irqsave() and unlock_irqrestore() (for softirqs lock_bh() and unlock_bh()) "
        "in task context.",
    ),
    "lockdep.instance-order": Advice(
        "Several locks of one class are taken in the order that is declared for them: ancestors "
        "first, ascending addresses, ascending indices.",
        "Compare the two before taking the first; or only try the second.",
    ),
    "lockdep.wait-context": Advice(
        "On a real-time kernel a spinlock sleeps: it is not taken inside a raw spinlock, with "
        "preemption off, or in an interrupt that is not threaded.",
        "Make the inner one a RawSpinLock, or take it outside.",
    ),
    "lockdep.nest-not-held": Advice(
        "Several locks of one class may be taken in any order under one lock that keeps apart "
        "those who do so.",
        "Take that lock first.",
    ),
    "lockdep.held-reinit": Advice(
        "A lock is initialised when nobody holds it.",
        "Initialise it where the object is made, not where it is used.",
    ),
    "lockdep.pinned": Advice(
        "A pinned lock is not released, not even for a moment, until it is unpinned.",
        "Unpin it first, and look again at whatever you learned under it.",
    ),
    "lockdep.ww-mutex": Advice(
        "A context takes mutexes of its class; after EDEADLK it releases all of them and begins "
        "with the one it could not have; after done() it takes no more.",
        "See the sequence at the top of vfsim/locks/ww_mutex.py.",
    ),
    "lockdep.sleep-in-atomic": Advice(
        "Nothing sleeps, or takes a lock that may sleep, while it holds a spinlock, is in an "
        "RCU read section or an interrupt, or has preemption or interrupts off.",
        "Do what sleeps before or after; or use a Mutex instead of the SpinLock if only tasks "
        "take it.",
    ),
    "race": Advice(
        "Two accesses to one field, one of which writes, are ordered (by a lock, a wake-up, a "
        "grace period ...) or both marked with READ_ONCE() and WRITE_ONCE().",
        "Take the lock that the declaration names around the access that lacks it; if the field "
        "needs none there, say why in its declaration.",
    ),
    "undeclared": Advice(
        "What several tasks use is declared, so that its accesses can be scheduled and checked, or "
        "is only ever used under one lock.",
        "Declare the field in a @kernel_struct with `shared` or `guarded_by(...)`, or take a lock.",
    ),
    "seq": Advice(
        "What was read between read_begin() and a read_retry() that said yes may be half old and "
        "half new; it must be read again before it is used.",
        "Loop until read_retry() says no, and use only what the last pass has read.",
    ),
    "lockdep.unlock-not-held": Advice(
        "A lock is released by the task that took it, once.",
        "Look for a path that releases twice, or without having taken it; `with lock:` cannot "
        "go wrong.",
    ),
    "lockdep.irq-unbalanced": Advice(
        "A lock that was taken with interrupts (softirqs) turned off is released by the form that "
        "goes with it, and interrupts come on again only where they were on before.",
        "lock_irqsave() goes with unlock_irqrestore(), lock_irq() with unlock_irq(), lock_bh() "
        "with unlock_bh(); where interrupts may be off already use lock_irqsave().",
    ),
    "lockdep.held-at-exit": Advice(
        "A task that ends, and an interrupt that returns, holds nothing.",
        "Look for a path, usually one that raises, without the unlock; `with lock:` covers "
        "all of them.",
    ),
    "lockdep.held-in-user-mode": Advice(
        "When a system call is over nothing is held, interrupts and preemption are on.",
        "Look for a path, usually one that raises, without the unlock; `with lock:` covers "
        "all of them.",
    ),
    "lockdep.assert_held": Advice(
        "What is asserted to be held is held by the task that says so.",
        "Take the lock, or do not rely on it here.",
    ),
    "lockdep.corrupt": Advice(
        "Locks and counters are used in the states that they are made for.",
        "Read the sentence at the top: it names the state.",
    ),
    "wait.deadlock": Advice(
        "Nobody waits for something that can only come after himself.",
        "Find the two places above that take the same things in different orders, and make it "
        "one order.",
    ),
    "wait.lost-wakeup": Advice(
        "Whoever makes a condition true wakes those who wait for it, afterwards; whoever "
        "waits looks at the condition after queueing, which wait_event() does.",
        "Call wake_up() after changing the state; wait with wait_event(condition), not with "
        "sleep_on().",
    ),
    "wait.no-waker": Advice(
        "What is waited for is going to happen: somebody still running, or an I/O on its way, "
        "will do it.",
        "Look for the path on which the lock is not released, the I/O not submitted or the "
        "completion not completed.",
    ),
    "lifetime.use-after-free": Advice(
        "Nothing is used after it was freed: who uses it holds a reference, or is in an RCU "
        "read section begun before.",
        "Take a reference before letting go of what kept it alive; do not keep a pointer "
        "beyond the put.",
    ),
    "lifetime.double-free": Advice(
        "An object is freed once.",
        "One of two places owns the object: decide which.",
    ),
    "lifetime.freed-locked": Advice(
        "Memory with a lock in it is freed when nobody holds the lock.",
        "Release it before the last reference is put.",
    ),
    "lifetime.inc-from-zero": Advice(
        "An object without references is dying, and no reference brings it back.",
        "Use the form that can fail (igrab(), get_not_zero()) where nothing keeps the object "
        "alive.",
    ),
    "lifetime.underflow": Advice(
        "Each reference is put once.",
        "Look for a put without a get, often on a path that raises.",
    ),
    "leak": Advice(
        "Every reference that is taken is put, at the latest before the filesystem is unmounted.",
        "Each iget(), igrab(), dget() and getblk() needs its iput(), dput() and brelse(), "
        "also on paths that raise.",
    ),
    "oops": Advice(
        "A method tells its caller what went wrong with an OSError; anything else that leaves "
        "it is a bug of the method.",
        "Start at the innermost line of yours below; raise ENOENT() or the like for what can "
        "happen.",
    ),
    "invariant": Advice(
        "What a structure says about itself is true whenever nobody is in the middle of "
        "changing it.",
        "Find who changed it last, in the columns below, and which lock he should have held.",
    ),
    "no-progress": Advice(
        "Every task ends, or waits for somebody who will act.",
        "A loop here never gets what it waits for; if it waits for time to pass, it must sleep.",
    ),
    "result": Advice(
        "Whatever the order in which processes run, the result is one that some order of "
        "whole operations gives.",
        "Follow the columns to the first switch after which a task works with something that "
        "is no longer true.",
    ),
    "conformance": Advice(
        "Names, data and errors are what Linux's own filesystems give; a method left out is "
        "never asked for more than Linux's errno.",
        "The calls above are the whole story: do them by hand with a Kernel, and stop where "
        "the answer is wrong.",
    ),
    "refusal": Advice(
        "A call that is refused by design has no effect: it is as if it had not been made.",
        "Refuse before anything is changed, times and positions included; or take back what was "
        "done.",
    ),
    "test": Advice(
        "The code of a test raises nothing but the AssertionError of what it asserts.",
        "Mend the line named above; self.outcome(call, ...) turns an expected errno into a value.",
    ),
}


def advice(rule: str) -> Advice | None:
    """What is known of a rule: by its name, its first part, or how every method must end; None for
    the contract's own.
    """
    first, _, rest = rule.partition(".")
    last = rest.rpartition(".")[2]
    return _ADVICE.get(rule) or _ADVICE.get(first) or _ADVICE.get(f"*.{last}")
