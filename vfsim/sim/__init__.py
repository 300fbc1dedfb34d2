"""Floor 1: the engine. Tasks, CPUs, contexts, the clock, the scheduler seam and the trace.

Read in this order: ``state`` (the few words everything shares), ``task``, ``context`` (what is
held, as an interned state), ``machine`` (one simulated world and the one function that suspends)
with ``placement``, ``timeline`` and ``burial``, ``scheduler`` (what code inside a task calls),
``cpu``, ``clock``, ``shared``, ``trace``; then what stands on these: ``smp`` (calls on other CPUs),
``workqueue`` (kernel threads that work) and ``faults`` (what may fail).
"""
