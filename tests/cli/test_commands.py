"""The commands: what they print, what they write, and with which status they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command

from examples.tinydisk import TinyDisk
from vfsim.checks import tables
from vfsim.cli.common import coverage_lines
from vfsim.fs.kernel import Kernel

pytestmark = pytest.mark.usefixtures("files", "small")

VIOLATION = {"rule", "kind", "blamed", "where", "summary", "token", "report"}


def test_a_clean_check(vfsim: Command) -> None:
    """A clean filesystem ends with 0 and says what was done."""
    result = vfsim("check", "toyfs.py", "--jobs", "1")
    assert result.status == 0 and result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == "toyfs.py: ToyFS" and lines[-1] == "clean: nothing found."
    text = result.out
    assert re.search(r"conformance +[\d,]+ assertions, none failed", text)
    assert re.search(r"concurrency +3 scenarios, [\d,]+ schedules, [\d,]+ distinct", text)
    assert re.search(r"methods +\d+ of \d+ called; never: ", text)
    assert re.search(r"contract +\d+ cells and rules checked, [\d,]+ times", text)


TIMELESS = """
from vfsim.filesystems.ramfs import RamDirectory, RamFS
from vfsim.fs import d_instantiate, dget

class TimelessDir(RamDirectory):
    def enter(self, dir, dentry, inode):
        d_instantiate(dentry, inode)
        dget(dentry)

class Timeless(RamFS):
    name = "timeless"
    directory = TimelessDir()
"""


def test_what_is_not_asked_is_said(vfsim: Command) -> None:
    """A filesystem may do some things in its own way; if it is a mistake, its author sees it."""
    Path("timeless.py").write_text(TIMELESS)
    out = vfsim("check", "timeless.py", "--jobs", "1").out
    assert "  unlike Linux  changing a directory does not change its times: not asked\n" in out
    assert "unlike Linux" not in vfsim("check", "toyfs.py", "--jobs", "1").out


def test_a_check_that_finds_a_bug(vfsim: Command) -> None:
    """A bug ends with 1, a full report, and a token that replays it."""
    result = vfsim("check", "broken.py")
    assert result.status == 1
    assert "rule:  lockdep.circular" in result.out and "filesystem BadDir" in result.out
    assert result.out.splitlines()[-1] == "1 bug found."
    token = re.findall(r"vfsim replay (vf1\.\S+)", result.out)[0]
    again = vfsim("replay", token)
    assert again.status == 1 and "rule:  lockdep.circular" in again.out
    assert again.out.splitlines()[-1] == "replayed exactly." and again.err == ""


def test_shrinking_can_be_left_out(vfsim: Command) -> None:
    """Without it the report is of the run that was found; the bugs are the same."""
    args = ("explore", "scenarios.py:Unfair", "--jobs", "1")
    small, found = vfsim(*args), vfsim(*args, "--no-shrink", "--no-store")
    assert small.status == found.status == 1
    assert "  minimal: " in small.out and "  minimal: " not in found.out
    assert small.out.splitlines()[0] == found.out.splitlines()[0]


def test_a_test_for_each_bug_is_written(vfsim: Command) -> None:
    """``--pytest`` writes a file that replays what was found, and none if nothing was."""
    few = ("--schedules", "20", "--jobs", "1")
    result = vfsim("check", "broken.py", "--pytest", "test_bugs.py", *few)
    token = re.findall(r"vfsim replay (vf1\.\S+)", result.out)[0]
    text = Path("test_bugs.py").read_text()
    assert "1 test in test_bugs.py." in result.out
    assert f'vfsim.replay(\n        "{token}"' in text and "def test_lockdep_circular()" in text
    assert vfsim("replay", token, "--pytest").out == text
    assert vfsim("check", "toyfs.py", "--pytest", "none.py", *few).status == 0
    assert not Path("none.py").exists()


def test_check_as_json(vfsim: Command) -> None:
    """The document has exactly the promised keys, on stdout alone or in a file."""
    args = ("check", "broken.py", "--seed", "7", "--schedules", "40", "--json")
    result = vfsim(*args, "-")
    data = json.loads(result.out)
    assert set(data) == {"target", "verdict", "violations", "schedules", "coverage", "seed"}
    assert (data["target"], data["verdict"], data["seed"]) == ("broken.py", "bug", 7)
    assert set(data["schedules"]) == {"run", "distinct"}
    assert all(set(v) == VIOLATION for v in data["violations"])
    assert data["violations"][0]["token"] in data["violations"][0]["report"]
    assert data["coverage"]["methods"]["inode_operations.create"]["calls"] > 0
    vfsim(*args, "out.json")
    assert json.loads(Path("out.json").read_text()) == data


@pytest.mark.parametrize("strategy", ["pos", "random", "pct", "auto"])
def test_results_do_not_depend_on_jobs(vfsim: Command, strategy: str) -> None:
    """One process or three, twice: the same document, coverage included."""
    args = ("check", "broken.py", "--strategy", strategy, "--schedules", "40", "--json", "-")
    outs = {}
    for jobs in ("1", "3", "1"):
        outs[vfsim(*args, "--jobs", jobs).out] = jobs
    assert len(outs) == 1


def test_what_a_target_prints_does_not_spoil_the_json(vfsim: Command) -> None:
    """With the document on stdout, a target's own output goes to stderr."""
    Path("loud.py").write_text("print('hello')\n" + Path("toyfs.py").read_text())
    result = vfsim("check", "loud.py", "--json", "-", "--jobs", "1")
    assert json.loads(result.out)["verdict"] == "clean" and "hello" in result.err


def test_check_writes_what_it_covered(vfsim: Command) -> None:
    """A check leaves a coverage record, which ``contract --coverage`` shows."""
    vfsim("check", "toyfs.py", "--schedules", "20")
    shown = vfsim("contract", "inode_operations", "--coverage", "--format", "json")
    method = json.loads(shown.out)["tables"]["inode_operations"]["methods"]["create"]
    assert method["coverage"]["calls"] > 0 and method["coverage"]["by"] == ["toyfs"]


def test_exploring_a_scenario(vfsim: Command) -> None:
    """A scenario is explored; its verdict is the last line."""
    result = vfsim("explore", "scenarios.py:Fight", "--schedules", "100")
    assert result.status == 0
    assert result.out.splitlines()[-1].startswith("Fight: clean; ")
    result = vfsim("explore", "scenarios.py:Unfair", "--schedules", "100")
    assert result.status == 1
    assert "BUG: Unfair.check: the first should win" in result.out
    assert "Unfair: 1 bug; " in result.out.splitlines()[-1]


def test_exploring_a_function(vfsim: Command) -> None:
    """A function over locks is a target of explore and of replay."""
    result = vfsim("explore", "scenarios.py:abba", "--json", "-")
    data = json.loads(result.out)
    assert result.status == 1 and set(data["violations"][0]) == VIOLATION
    kinds = {v["rule"] for v in data["violations"]}
    assert {"lockdep.circular", "wait.deadlock"} <= kinds
    for violation in data["violations"]:
        assert vfsim("replay", violation["token"]).status == 1


def test_replay_as_json(vfsim: Command) -> None:
    """The document of explore, for one schedule, with what a replay knows."""
    data = json.loads(vfsim("explore", "scenarios.py:Unfair", "--json", "-").out)
    token = data["violations"][0]["token"]
    again = json.loads(vfsim("replay", token, "--json", "-").out)
    assert again["violations"] == data["violations"] and again["seed"] == data["seed"]
    assert again["schedules"] == {"run": 1, "distinct": 1}
    assert again["replay"] == {"exact": True, "reproduced": True, "changed": "", "divergence": ""}


def test_a_token_on_stdin(vfsim: Command) -> None:
    """``replay -`` reads the token from stdin; what is no text, or not there, is misuse."""
    data = json.loads(vfsim("explore", "scenarios.py:Unfair", "--json", "-").out)
    token = data["violations"][0]["token"]

    def replay(text: bytes, shell: str = "") -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" -m vfsim replay - {shell}', sys.executable],
            input=text,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stderr.decode()

    assert replay(token.encode() + b"\n") == (1, "")
    for text, shell in ((b"\xff\xfe", ""), (b"", ""), (b"", "<&-")):
        status, err = replay(text, shell)
        assert status == 2 and err.startswith("vfsim: ") and err.count("\n") == 1


def test_replay_after_a_change(vfsim: Command) -> None:
    """With changed sources the replay warns; after the bug was mended it says that it is gone."""
    data = json.loads(vfsim("explore", "scenarios.py:Unfair", "--json", "-").out)
    token = data["violations"][0]["token"]
    text = Path("scenarios.py").read_text()
    Path("scenarios.py").write_text(text + "# a comment\n")
    sys.modules.pop("scenarios")
    result = vfsim("replay", token)
    assert result.status == 1 and "the target changed since this token was made" in result.err
    assert "but not this run" in result.err
    Path("scenarios.py").write_text(text.replace("assert results.one.ok", "assert True"))
    sys.modules.pop("scenarios")
    result = vfsim("replay", token)
    assert result.status == 0 and "it no longer fails with result.Unfair." in result.out


def test_replay_without_the_target(vfsim: Command) -> None:
    """A token whose file is gone says so."""
    data = json.loads(vfsim("explore", "scenarios.py:Unfair", "--json", "-").out)
    Path("scenarios.py").unlink()
    sys.modules.pop("scenarios")
    result = vfsim("replay", data["violations"][0]["token"])
    assert result.status == 2 and result.err == "vfsim: there is no file scenarios.py\n"


def test_the_contract(vfsim: Command) -> None:
    """One table or all, as the document prints it, as JSON and as Markdown."""
    one = vfsim("contract", "dentry_operations")
    assert one.status == 0 and "d_revalidate:" in one.out and "rcu-walk" in one.out
    everything = vfsim("contract").out
    assert all(t in everything for t in ("inode_operations", "vm_operations_struct"))
    data = json.loads(vfsim("contract", "--format", "json").out)
    assert data == json.loads(vfsim("contract", "--json", "-").out)
    assert set(data) == {"source", "tables", "rules"} and len(data["tables"]) == 13
    assert vfsim("contract", "--format", "md").out.startswith("# ")
    vfsim("contract", "--json", "contract.json")
    assert json.loads(Path("contract.json").read_text()) == data


def test_contract_coverage(vfsim: Command) -> None:
    """Without a record everything shows zero; a file that is no record is misuse."""
    shown = json.loads(vfsim("contract", "--coverage", "--format", "json").out)
    create = shown["tables"]["inode_operations"]["methods"]["create"]
    assert create["coverage"] == {"calls": 0, "by": []}
    assert create["cells"]["i_mutex(inode)"]["checked"] == 0
    Path("wrong.json").write_text("{}")
    result = vfsim("contract", "--from", "wrong.json")
    assert result.status == 2 and "wrong.json" in result.err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["check", "nothing.py"], "vfsim: there is no file nothing.py"),
        (["check", "scenarios.py:Fight"], "vfsim: Fight in scenarios.py is no filesystem"),
        (["explore", "toyfs.py"], "vfsim: toyfs.py holds no scenario"),
        (["explore", "scenarios.py"], "vfsim: scenarios.py holds"),
        (["replay", "x"], "vfsim: this is not a vfsim token"),
        (["replay", "vf2.abc"], "vfsim: this token is of version 2"),
        (["replay", "vf1.abc"], "vfsim: this token is damaged"),
        (["contract", "nothing"], "vfsim: there is no table 'nothing'"),
        (["check"], "vfsim check: Missing argument 'TARGET'"),
        (["nothing"], "vfsim: No such command 'nothing'"),
        (["check", "toyfs.py", "--nothing"], "vfsim check: No such option"),
        (["check", "toyfs.py", "--seed", "x"], "vfsim check: Invalid value for '--seed'"),
        (["check", "toyfs.py", "--schedules", "0"], "vfsim check: Invalid value for '--schedules'"),
        (["check", "toyfs.py", "--device", "-1"], "vfsim check: Invalid value for '--device'"),
        (["check", "toyfs.py", "--jobs", "0"], "vfsim check: Invalid value for '--jobs'"),
        (["check", "toyfs.py", "--strategy", "x"], "vfsim check: Invalid value for '--strategy'"),
        (["explore", "scenarios.py:Fight", "--strategy", "pct:0"], "vfsim explore: Invalid value"),
        (["check", "toyfs.py", "--json", "no/such/x"], "vfsim check: Invalid value for '--json'"),
        (["check", "toyfs.py", "--pytest", "no/x"], "vfsim check: Invalid value for '--pytest'"),
        (["contract", "--json", "/dev/full"], "vfsim: cannot write /dev/full: No space left"),
        (["contract", "--from", "nothing"], "vfsim contract: Invalid value for '--from'"),
        (["contract", "--format", "xml"], "vfsim contract: Invalid value for '--format'"),
    ],
)
def test_misuse_is_one_sentence(vfsim: Command, args: list[str], sentence: str) -> None:
    """Whatever is wrong with a command line: one line on stderr, status 2, no traceback."""
    result = vfsim(*args)
    assert result.status == 2 and result.out == ""
    assert result.err.startswith(sentence) and result.err.count("\n") == 1


def test_help_and_version(vfsim: Command) -> None:
    """Every command explains itself."""
    assert vfsim("--version").out.startswith("vfsim ")
    assert "check" in vfsim("--help").out
    for command in ("check", "explore", "replay", "contract"):
        result = vfsim(command, "--help")
        assert result.status == 0 and "--json" in result.out
    assert vfsim().status == 2


def start(*args: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vfsim", *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


AT_WORK = """
import sys
from multiprocessing import parent_process
from pathlib import Path
from scenarios import Fight, ToyFS

class Telling(ToyFS):
    name = "telling"

    def mount(self, flags, dev_name, data):
        if "--jobs=1" in sys.argv or parent_process():
            Path("at-work").touch()
        return super().mount(flags, dev_name, data)

class Shown(Fight):
    filesystem = Telling
"""
"""Tells that a command is at work: the process that does it has mounted something."""


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("command", "name"), [("check", "Telling"), ("explore", "Shown")])
def test_ctrl_c_ends_with_what_there_is(command: str, name: str, jobs: str) -> None:
    """An interrupted command prints what it has and ends with 130, in any number of processes."""
    Path("telling.py").write_text(AT_WORK)
    many = ["--schedules", "1000000", f"--jobs={jobs}", "--json", "out.json"]
    process = start(command, f"telling.py:{name}", *many)
    while process.poll() is None and not Path("at-work").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in out.splitlines()[-1] and err == ""
    data = json.loads(Path("out.json").read_text())
    assert data["verdict"] == "interrupted" and data["violations"] == []


IMPATIENT = """
import sys

class Impatient:
    def find_spec(self, name, path, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Impatient())
from vfsim.cli.main import main
main()
"""
"""Presses Ctrl-C while vfsim is being loaded."""


def test_ctrl_c_at_once() -> None:
    """Nothing that takes a while happens before Ctrl-C is dealt with."""
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "vfsim: interrupted\n")


@pytest.mark.parametrize("json", [[], ["--json", "-"]])
def test_no_room_for_the_output(json: list[str]) -> None:
    """What cannot be written is not vfsim's fault: one sentence."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vfsim", "contract", *json],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "vfsim: cannot write to stdout: No space left on device\n"


def test_a_pipe_that_closes_is_no_error() -> None:
    """``vfsim contract | head`` ends quietly."""
    process = start("contract")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


def test_no_progress_bar_in_a_pipe() -> None:
    """Nothing but text is written where nobody watches."""
    process = start("explore", "scenarios.py:Fight", "--schedules", "50")
    out, err = process.communicate(timeout=60)
    assert "\x1b" not in out and err == "" and process.returncode == 0


def test_hash_seeds_do_not_matter() -> None:
    """The same command gives the same document, tokens included, whatever PYTHONHASHSEED is."""
    outs = set()
    for seed in ("0", "1", "77"):
        process = subprocess.run(
            [sys.executable, "-m", "vfsim", "explore", "scenarios.py:Unfair", "--json", "-"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 1
        outs.add(process.stdout)
    assert len(outs) == 1


def test_a_method_of_a_base_is_called_in_a_subclass() -> None:
    """Where two classes have a method from a third of the same file, it is not told as silent."""

    def work(sys: Any) -> None:
        fd = sys.open("/f", os.O_CREAT | os.O_RDWR)
        sys.fsync(fd)
        sys.close(fd)

    tables.reset()
    with Kernel() as kernel:
        kernel.mount(TinyDisk, "/")
        kernel.call(work)
    [methods, _] = coverage_lines(tables.record(), TinyDisk)
    assert "TinyDir.unlink" in methods and "TinyOpenDir.fsync" in methods
    assert "TinyOpen.fsync" not in methods
