"""Replaying tokens: exact while nothing changed, honest when something did."""

from __future__ import annotations

import attrs
import pytest
from programs import busy, locked_update, lost_update

from vfsim.explore import identity
from vfsim.explore.explore import search
from vfsim.explore.parallel import EngineError
from vfsim.explore.program import FunctionProgram
from vfsim.explore.replay import Replayed, replay
from vfsim.explore.token import Token, decode
from vfsim.sim.choice import Deviation


@pytest.fixture
def token() -> Token:
    """A token of the lost update."""
    [failure] = search(FunctionProgram(lost_update), schedules=200).failures
    return decode(failure.token)


def again(token: Token, **changes: object) -> Replayed:
    return replay(attrs.evolve(token, **changes), FunctionProgram(lost_update))


def test_a_token_brings_the_run_back(token: Token) -> None:
    """The same violation, the same trace, nothing astray."""
    result = again(token)
    assert result.reproduced and result.exact and not result.broken and not result.divergence
    assert result.failures[0].violation.kind == "wrong result"
    result.check()


def test_it_can_be_repeated_ten_times(token: Token) -> None:
    """Ten replays are ten times the same."""
    assert len({again(token).run.digest for _ in range(10)}) == 1


def test_another_operation_at_a_deviation_is_told(token: Token) -> None:
    """The replay compares what a task is about to do, and names the first place that differs."""
    result = again(token, expected=("spin_lock", *token.expected[1:]))
    assert "spin_lock" in result.divergence and "at operation" in result.divergence
    with pytest.raises(EngineError, match=r"although nothing changed.*went astray at operation"):
        result.check()


def test_a_deviation_that_never_comes_is_told(token: Token) -> None:
    """An operation that the run no longer reaches is a divergence."""
    extra = Deviation("1", "p", 99, 0, "2")
    result = again(token, deviations=(*token.deviations, extra), expected=())
    assert "at operation 99 of task 1" in result.divergence


def test_somebody_who_cannot_run_is_told(token: Token) -> None:
    """A task that should run next and is not there is a divergence, not a crash."""
    first = attrs.evolve(token, deviations=(token.deviations[0]._replace(value="77"),), expected=())
    result = replay(first, FunctionProgram(lost_update))
    assert "task 77 should run next" in result.divergence


def test_changed_sources_excuse_a_difference(token: Token) -> None:
    """With other sources the replay does what it can, and says that it no longer fails."""
    result = replay(attrs.evolve(token, sources="other"), FunctionProgram(locked_update))
    assert result.changed == "the target" and not result.reproduced
    assert result.divergence
    result.check()


def test_a_changed_vfsim_is_named(token: Token) -> None:
    """A token of another vfsim says so."""
    assert again(token, engine="other").changed == "vfsim"
    assert again(token, engine="other", sources="x").changed == "the target and vfsim"


def test_a_bug_that_is_gone_without_a_change_is_an_error(token: Token) -> None:
    """If nothing changed and the bug is gone, vfsim is broken, and says so."""
    with pytest.raises(EngineError, match="was found then and is not found now"):
        again(token, rule="another.rule").check()


def test_another_trace_without_a_change_is_an_error(token: Token) -> None:
    """The fingerprint of the whole trace is compared, not the outcome alone."""
    with pytest.raises(EngineError, match="the trace is not the recorded one"):
        again(token, fingerprint="00000000").check()


def test_any_deviations_make_some_run() -> None:
    """A replay of nonsense runs with defaults and never fails by itself."""
    nonsense = (
        Deviation("1", "p", 3, 0, "9"),
        Deviation("x", "b", 1, 4, "clock"),
        Deviation("", "b", 0, 0, "3"),
        Deviation("2", "waiter", 1, 0, 55),
    )
    result = replay(Token("", "busy", deviations=nonsense), FunctionProgram(busy))
    assert not result.failures and result.divergence


def test_the_digest_of_sources_follows_what_a_file_imports(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changing a file, or one that it imports, changes the digest."""
    import importlib.util
    from pathlib import Path

    folder = Path(str(tmp_path))
    monkeypatch.syspath_prepend(str(folder))

    def digest(main: str, helper: str) -> str:
        import sys

        (folder / "digest_helper.py").write_text(helper)
        (folder / "digest_main.py").write_text(main)
        sys.modules.pop("digest_helper", None)
        importlib.invalidate_caches()
        spec = importlib.util.spec_from_file_location("digest_main", folder / "digest_main.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return identity.of_module(module)

    main = "import os\nfrom digest_helper import thing\n"
    first = digest(main, "class thing: pass\n")
    assert first == digest(main, "class thing: pass\n")
    assert first != digest(main + "# more\n", "class thing: pass\n")
    assert first != digest(main, "class thing: pass  # more text\n")
