"""Floor 3, judging: what must hold, looked at while it happens.  Knows no filesystem.

The contract, in this order: ``rules`` (the words of a declaration), ``contract`` (classes verified,
methods wrapped), ``wrapper`` (the code around one method), ``calls`` (what happens when it finds
something), ``obligations`` (what a method still owes afterwards), ``blame`` (whose bug it is),
``tables`` (the contract and its coverage as data).

Whoever writes tables of operations imports the words from `vfsim.checks.rules` and the base class
from `vfsim.checks.contract`; whoever implements them needs only the three ``operations`` pages.

The rest is ``judge``, which the engine asks, and what it asks in turn: ``lockdep`` over ``steps``,
``orders`` and ``instances``, ``waits``, ``lifetime``; and ``report``, which words the finding.
``union`` looks at the lock orders of many worlds, ``reference`` checks the checker.
"""
