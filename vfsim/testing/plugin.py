"""The pytest plugin: a kernel for each test, and readable failures.  Installed with vfsim.

* ``kernel`` is a fresh `vfsim.Kernel`.  When the test has passed, everything is unmounted, and it
  is a failure if a process never ended, if something is still held, or if something leaked.
* ``--vfsim-coverage NAME`` keeps what the tests covered of the contract in ``.vfsim/coverage``, for
  ``vfsim contract --coverage``.

Nothing of vfsim is imported before it is needed: the plugin is loaded in every pytest run of an
environment that has vfsim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from vfsim.fs.kernel import Kernel

for _name in ("block", "filesystems", "fs", "locks", "mm", "testing.scenarios"):
    pytest.register_assert_rewrite(f"vfsim.{_name}")

_PASSED = pytest.StashKey[bool]()


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel with nothing mounted, which is looked over and taken down after the test."""
    from vfsim.fs.kernel import Kernel

    made = Kernel()
    try:
        yield made
        if request.node.stash.get(_PASSED, True):
            _look_over(made)
    finally:
        made.machine.bury()


def _look_over(kernel: Kernel) -> None:
    """Fail if the kernel was left in a state that no program may leave it in."""
    __tracebackhide__ = True
    from vfsim.sim.errors import KernelBug

    machine = kernel.machine
    if machine.dead or machine.stopped:
        return
    left = [t for t in machine.tasks if t.alive and not t.daemon]
    if left:
        names = ", ".join(f"{t.name} ({_state(t)})" for t in left)
        pytest.fail(f"the test ended with processes that did not: {names}", pytrace=False)
    try:
        kernel.shutdown()
    except KernelBug as bug:
        pytest.fail(f"left behind in the kernel: {bug}", pytrace=False)


def _state(task: object) -> str:
    waits_on = getattr(task, "waits_on", None)
    return f"waits for {waits_on!r}" if waits_on is not None else "never ran: call kernel.run()"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test passed: after a failure its kernel is not worth judging."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--vfsim-coverage``."""
    group = parser.getgroup("vfsim")
    group.addoption(
        "--vfsim-coverage",
        metavar="NAME",
        help="keep what was covered of the locking contract as .vfsim/coverage/NAME.json",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to count, in place of the last run of that name."""
    name = session.config.getoption("--vfsim-coverage", default=None)
    if not name:
        return
    from vfsim.checks import tables

    if _worker(session) is None:
        for pattern in (f"{name}.json", f"{name}-gw*.json"):
            for old in tables.COVERAGE.glob(pattern):
                old.unlink()
    tables.collect()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the record, one per worker of pytest-xdist."""
    name = session.config.getoption("--vfsim-coverage", default=None)
    worker = _worker(session)
    if name and (worker is not None or not getattr(session.config.option, "numprocesses", None)):
        from vfsim.checks import tables

        tables.write_record(f"{name}-{worker}" if worker else name, tables.collected())


def _worker(session: pytest.Session) -> str | None:
    """The name of this process among those of pytest-xdist; None for the one that the user sees."""
    given = getattr(session.config, "workerinput", None)
    return None if given is None else str(given["workerid"])
