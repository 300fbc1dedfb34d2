"""What people import in their tests: `VfsMachine`, `strategies`, `Model`, `check_linearizable`.

They are loaded when they are first asked for, because the commands need none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfsim.testing.linearizability import Operation, check_linearizable
    from vfsim.testing.machine import VfsMachine
    from vfsim.testing.model import Call, Model

__all__ = ["Call", "Model", "Operation", "VfsMachine", "check_linearizable"]

_PLACES = {
    "VfsMachine": "machine",
    "Model": "model",
    "Call": "model",
    "Operation": "linearizability",
    "check_linearizable": "linearizability",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module it lives in."""
    if name in _PLACES:
        return getattr(import_module(f"vfsim.testing.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
