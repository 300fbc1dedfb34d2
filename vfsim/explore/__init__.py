"""Floor 3: searching.  Many schedules of one program, what they found, and tokens to bring it back.

`program` says what can be explored; ``strategies`` hold who runs next, one per file; `execute` runs
one schedule; `explore` runs many and reports, `parallel` in several processes; `token` is a run as
a line of text and `replay` runs it again; `watch` keeps runaway loops and Ctrl-C in hand.

What was found is made small and explained: `shrink` takes away what a failure does not need, first
whatever is not in its past (`causal`); `nearest` looks for the closest schedule that passes, and
`parting` says where the two part.  Nothing here knows a filesystem.

The package can be called: ``vfsim.explore(...)`` is `vfsim.explore.explore.explore`, whatever of
the package was imported before.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run a scenario under many schedules; see `vfsim.explore.explore.explore`."""
        __tracebackhide__ = True
        from vfsim.explore.explore import explore

        return explore(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
