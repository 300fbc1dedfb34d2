"""The store: failures come first next time, searches go on, and nothing is lost."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import busy, dining, locked_update, lost_update

from vfsim.explore.campaign import Campaign, campaign_of
from vfsim.explore.explore import Exploration, search
from vfsim.explore.parallel import EngineError
from vfsim.explore.program import FunctionProgram
from vfsim.explore.store import Damaged, Replays, Store
from vfsim.explore.token import decode, encode
from vfsim.sim.machine import Machine

PROGRAM = FunctionProgram(dining)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of the dining philosophers, with nothing in it."""
    return Store(PROGRAM.target, (), tmp_path / ".vfsim")


@pytest.fixture
def found(store: Store) -> Exploration:
    """What a search found, and the store keeps."""
    found = search(PROGRAM, schedules=100, shrink=True)
    store.keep(found.failures)
    return found


def files(store: Store, where: str = "failures") -> list[Path]:
    return sorted((store.folder / where).glob("*.json"))


def known(store: Store, program: Callable[[Machine], object] = dining) -> Replays:
    return store.replay_known(lambda token: FunctionProgram(program))


class TestFailures:
    """Kept, replayed first, set aside when they are gone."""

    def test_they_come_back_as_they_were(self, store: Store, found: Exploration) -> None:
        """One file for each, and a replay of each reports what the search reported, in order."""
        assert len(files(store)) == len(found.failures) >= 2
        replays = known(store)
        assert [f.report for f in replays.still] == [f.report for f in found.failures]
        assert [f.token for f in replays.still] == [f.token for f in found.failures]
        number = len(found.failures)
        assert str(replays) == f"{number} known failures replayed first: {number} still fail"

    def test_a_file_can_be_read_by_people(self, store: Store, found: Exploration) -> None:
        """It says what is wrong in plain words beside the token."""
        data = json.loads(files(store)[0].read_text())
        assert data["rule"] in {f.violation.rule for f in found.failures}
        assert data["summary"] and data["where"].startswith("programs.py") and data["token"]
        assert files(store)[0].name.startswith(data["rule"])

    def test_finding_them_again_changes_nothing(self, store: Store, found: Exploration) -> None:
        """A search that is given the replayed failures reports nothing twice, and counts them."""
        again = search(PROGRAM, schedules=100, first=known(store).still)
        assert [f.token for f in again.failures] == [f.token for f in found.failures]
        assert again.failures[0].count > 1
        before = [path.read_text() for path in files(store)]
        store.keep(again.failures)
        assert [path.read_text() for path in files(store)] == before

    def test_what_is_gone_is_set_aside(self, store: Store, found: Exploration) -> None:
        """With other sources a failure that comes no more moves to failures/fixed."""
        for path in files(store):
            data = json.loads(path.read_text())
            token = attrs.evolve(decode(data["token"]), sources="other")
            path.write_text(json.dumps({**data, "token": encode(token)}))
        number = len(found.failures)
        replays = known(store, locked_update)
        assert (replays.still, replays.gone) == ([], number)
        assert str(replays).endswith(f"{number} are gone (kept in failures/fixed)")
        assert not files(store) and len(files(store, "failures/fixed")) == number
        assert known(store).gone == 0

    def test_gone_without_a_change_is_our_fault(self, store: Store, found: Exploration) -> None:
        """If nothing changed, a failure must come again."""
        with pytest.raises(EngineError, match="should fail again, since nothing changed"):
            known(store, locked_update)

    def test_another_target_is_left_alone(self, store: Store, found: Exploration) -> None:
        """Failures of other targets, or of other options, are not replayed."""
        for other in (
            attrs.evolve(store, target="other.py"),
            attrs.evolve(store, options=(("device", 8),)),
        ):
            assert known(other) == Replays()

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", '{"version": 9}', '{"version": 1}', "[" * 100_000]
    )
    def test_damaged_files_are_refused_and_stay(
        self, store: Store, found: Exploration, text: str
    ) -> None:
        """A damaged file costs a sentence; the others are used, and it stays where it is."""
        path = files(store)[0]
        path.write_text(text)
        replays = known(store)
        [sentence] = replays.refused
        assert str(path) in sentence and "is not used and stays as it is: " in sentence
        assert "\n" not in sentence
        assert len(replays.still) == len(found.failures) - 1
        assert path.read_text() == text

    def test_a_changed_token_is_refused(self, store: Store, found: Exploration) -> None:
        """A token that is damaged, or another one's, is not replayed."""
        one, other = files(store)[:2]
        data = json.loads(one.read_text())
        one.write_text(json.dumps({**data, "token": data["token"][:-2]}))
        assert "this token is damaged" in known(store).refused[0]
        one.write_text(json.dumps({**data, "token": json.loads(other.read_text())["token"]}))
        assert "its token is not the token of what it tells" in known(store).refused[0]

    def test_a_damaged_file_is_not_written_over(self, store: Store, found: Exploration) -> None:
        """If its place is needed again, the damaged file is set aside."""
        path = files(store)[0]
        path.write_text("precious")
        store.keep(found.failures)
        assert path.with_name(path.name + ".damaged").read_text() == "precious"
        assert len(known(store).still) == len(found.failures)

    def test_where_nothing_can_be_written_nothing_is_kept(self, tmp_path: Path) -> None:
        """A folder that is a file, or is read-only, is no error."""
        (tmp_path / "file").write_text("")
        found = search(PROGRAM, schedules=50)
        nowhere = Store(PROGRAM.target, (), tmp_path / "file" / "below")
        nowhere.keep(found.failures)
        nowhere.save("pos", 0, {"dining": found.campaign})
        assert known(nowhere) == Replays()
        if os.getuid():
            tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
            Store(PROGRAM.target, (), tmp_path / "new").keep(found.failures)

    def test_nothing_is_left_lying_about(self, store: Store, found: Exploration) -> None:
        """Files are moved to their place as a whole."""
        assert [p for p in store.folder.rglob("*") if p.suffix not in ("", ".json")] == []


class TestCampaigns:
    """A search goes on where it stopped."""

    @pytest.mark.parametrize("strategy", ["pos", "urw", "auto", "irq_sweep"])
    @pytest.mark.parametrize("first", [2, 60])
    def test_two_halves_are_a_whole(self, store: Store, strategy: str, first: int) -> None:
        """Going on gives the schedules, classes and orders of one long search."""
        program = FunctionProgram(busy)
        whole = search(program, schedules=100, strategy=strategy)
        half = search(program, schedules=first, strategy=strategy)
        store.save(strategy, 0, {"busy": half.campaign})
        campaigns, why_not = store.resume(strategy, 0)
        assert not why_not
        rest = search(
            program, schedules=100 - first, strategy=strategy, campaign=campaigns["busy"], jobs=2
        )
        assert rest.campaign == whole.campaign
        assert half.run + rest.run == whole.run and half.distinct + rest.distinct == whole.distinct
        if rest.run:
            assert f"schedules from number {first} on" in str(rest)

    def test_a_failure_found_later_has_its_own_number(self) -> None:
        """The token of a schedule in the second half names it by the number of the whole."""
        program = FunctionProgram(lost_update)
        [failure] = search(program, schedules=100).failures
        campaign = Campaign(next=50)
        [later] = search(program, schedules=100, campaign=campaign).failures
        assert failure.schedule < 50 <= later.schedule

    def test_another_search_starts_anew(self, store: Store) -> None:
        """Another seed or strategy, changed sources, another vfsim: nothing to go on with."""
        found = search(PROGRAM, schedules=20)
        store.save("pos", 0, {"dining": found.campaign})
        assert store.resume("pos", 0)[0] == {"dining": found.campaign}
        for strategy, seed in (("pct", 0), ("pos", 1)):
            assert store.resume(strategy, seed) == (
                {}, "nothing is known of an earlier search with this strategy and seed",
            )  # fmt: skip
        [path] = files(store, "campaigns")
        for key in ("sources", "engine"):
            data = json.loads(path.read_text())
            path.write_text(json.dumps({**data, key: "other"}))
            assert store.resume("pos", 0) == ({}, "the target or vfsim changed since")
            path.write_text(json.dumps(data))

    @given(st.data())
    @settings(max_examples=60)
    def test_any_damage_is_refused(self, data: st.DataObject) -> None:
        """Whatever is not a campaign is refused, and never half believed."""
        good = search(PROGRAM, schedules=5).campaign.as_dict()
        key = data.draw(st.sampled_from(sorted(good)))
        junk = (
            st.none() | st.text(max_size=3) | st.lists(st.text(max_size=2) | st.none(), min_size=1)
        )
        bad = data.draw(junk | st.just(-1) | st.booleans())
        try:
            read = campaign_of({**good, key: bad})
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        assert (
            read.as_dict() == {**good, key: sorted(bad) if key == "schedules" else bad} or not bad
        )

    @pytest.mark.parametrize("text", ["", "{}", '{"version": 1}', '{"version": 1, "campaigns": 3}'])
    def test_a_damaged_file_is_refused(self, store: Store, text: str) -> None:
        """``--resume`` with a damaged file is an error in one sentence, and the file stays."""
        store.save("pos", 0, {})
        [path] = files(store, "campaigns")
        path.write_text(text)
        with pytest.raises(Damaged, match="is not used and stays as it is"):
            store.resume("pos", 0)
        assert path.read_text() == text
