"""Whatever is typed on the command line: an answer or one sentence, never a traceback."""

from __future__ import annotations

import pytest
from conftest import Command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("files")

COMMANDS = ["check", "explore", "replay", "contract", "", "chekc"]
WORDS = [
    "--json", "-", "--seed", "--schedules", "--strategy", "--device", "--mount-options", "--jobs",
    "--format", "md", "--coverage", "--from", "--help", "--", "0", "-1", "1e9", "pct:0", "pos:1",
    "tiny.py", "tiny.py:tiny", "tiny.py:Nothing", "nothing.py", ":", "inode_operations",
    "vf1.", "vf9.x",
    "/dev/null", "\ud800", "é", "\x00", "",
]  # fmt: skip
words = st.sampled_from(WORDS) | st.text(max_size=12)


@given(st.sampled_from(COMMANDS), st.lists(words, max_size=5))
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_command_line(vfsim: Command, command: str, args: list[str]) -> None:
    """Status 0 to 2, no traceback; misuse says something on stderr."""
    result = vfsim(command, *args)
    assert result.status in (0, 1, 2)
    assert "Traceback" not in result.err
    if result.status == 2:
        assert result.err.strip()


@given(st.text(max_size=80) | st.from_regex(r"vf[0-9]{1,3}\.[A-Za-z0-9_-]{0,80}", fullmatch=True))
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_token(vfsim: Command, token: str) -> None:
    """Any text as a token is refused with one sentence and status 2."""
    result = vfsim("replay", "--", token)
    assert result.status == 2
    assert result.err.startswith("vfsim: this ") and result.err.count("\n") == 1
