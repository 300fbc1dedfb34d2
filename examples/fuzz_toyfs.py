"""Fuzz toyfs: Hypothesis writes the programs, vfsim tries the schedules.

``pytest examples/fuzz_toyfs.py`` runs it as a test; ``vfsim fuzz examples/fuzz_toyfs.py`` without.
Everything that the contract and the model of Linux say is checked already.  What is added here is
what only the author knows: a rule, and something that must be true in the end.
"""

import os
from stat import S_ISDIR

from hypothesis.stateful import rule

from examples.toyfs import ToyFS
from vfsim.fs.syscalls import Sys
from vfsim.testing import VfsMachine
from vfsim.testing import strategies as vst
from vfsim.testing.machine import some_process


class ToyMachine(VfsMachine):
    """Three processes on toyfs, and a log that each may append to."""

    filesystem = ToyFS

    def setup(self, sys: Sys) -> None:
        sys.close(sys.open("/log", os.O_CREAT, 0o666))

    @rule(process=some_process(), data=vst.data(10))
    def append(self, process: int, data: bytes) -> None:
        """Open the log and write a line."""
        self.call(process, "open", "/log", os.O_WRONLY | os.O_APPEND, 0)
        self.call(process, "write", 0, data)

    def check(self, sys: Sys) -> None:
        """The root has two links, and one for each directory in it."""
        kinds = [sys.lstat("/" + name).st_mode for name in sys.listdir("/")]
        assert sys.stat("/").st_nlink == 2 + sum(map(S_ISDIR, kinds))


TestToy = ToyMachine.TestCase
