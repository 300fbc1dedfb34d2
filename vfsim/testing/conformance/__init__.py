"""Names and data: what every filesystem must do as Linux does it.

`run_conformance` runs the suite on a `Ground`, which gives it fresh filesystems; `probe` finds out
what a filesystem offers, so that a method left out is expected to give Linux's errno and nothing
more is asked of it.
"""

# Importing a module registers its assertions; this is the order in which they run.
# isort: off
from vfsim.testing.conformance import directories as _directories
from vfsim.testing.conformance import walking as _walking
from vfsim.testing.conformance import data as _data
from vfsim.testing.conformance import sizes as _sizes
from vfsim.testing.conformance import links as _links
from vfsim.testing.conformance import rename as _rename
from vfsim.testing.conformance import calls as _calls
from vfsim.testing.conformance import attributes as _attributes
from vfsim.testing.conformance import permissions as _permissions
from vfsim.testing.conformance import descriptors as _descriptors
from vfsim.testing.conformance import missing as _missing
from vfsim.testing.conformance import xattrs as _xattrs
# isort: on

from vfsim.testing.conformance.capabilities import Capabilities, probe
from vfsim.testing.conformance.ground import Ground
from vfsim.testing.conformance.kernel_ground import KernelGround
from vfsim.testing.conformance.run import Result, run_assertion, run_conformance
from vfsim.testing.conformance.suite import Assertion, Nonconforming, assertions
from vfsim.testing.conformance.syscalls import SystemCalls

__all__ = [
    "Assertion",
    "Capabilities",
    "Ground",
    "KernelGround",
    "Nonconforming",
    "Result",
    "SystemCalls",
    "assertions",
    "probe",
    "run_assertion",
    "run_conformance",
]

_AREAS = (
    _directories, _walking, _data, _sizes, _links, _rename, _calls, _attributes, _permissions,
    _descriptors, _missing, _xattrs,
)  # fmt: skip
