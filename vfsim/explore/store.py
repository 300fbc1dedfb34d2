"""What is kept between two commands, in ``.vfsim``: failures to replay first, and campaigns.

``failures/NAME.json``
    One file per target and signature of a failure, readable, with the token that brings it back.
    The next command on the same target replays them before it searches.  One that comes no more
    moves to ``failures/fixed``; nothing is deleted.

``campaigns/NAME.json``
    How far the searches of one target with one strategy and one seed have come
    (`vfsim.explore.campaign`), for ``--resume``.  It counts only while target and vfsim are what
    they were.

Files are written beside their place and moved there, so that another process sees the old one or
the new one.  A file that is damaged is refused in one sentence and stays; should its place be
needed, it is set aside under the name ``….damaged``.  Where nothing can be written nothing is kept.

Only the commands keep anything: `vfsim.explore` and the pytest plugin never write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.explore import identity
from vfsim.explore.campaign import Campaign, campaign_of
from vfsim.explore.parallel import EngineError
from vfsim.explore.replay import replay
from vfsim.explore.token import BadToken, Token, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from vfsim.explore.failure import Failure
    from vfsim.explore.program import Program
    from vfsim.explore.token import Option

FOLDER = Path(".vfsim")
"""Where the commands keep things, below the working directory."""

_VERSION = 1
_MAX_FILE = 1 << 28

Options = tuple[tuple[str, "Option"], ...]


class Damaged(ValueError):
    """A file of the store cannot be used; the message is one sentence for people."""


@attrs.define
class Replays:
    """What came of the known failures.

    Attributes:
        still: those that fail as before, reported anew.
        gone: how many come no more.
        refused: a sentence for each file that cannot be used.
    """

    still: list[Failure] = attrs.Factory(list)
    gone: int = 0
    refused: list[str] = attrs.Factory(list)

    def __str__(self) -> str:
        number = len(self.still) + self.gone
        parts = []
        if self.still:
            parts.append(f"{len(self.still)} still fail{'s' * (len(self.still) == 1)}")
        if self.gone:
            kept = "kept in failures/fixed"
            parts.append(f"{self.gone} {'is' if self.gone == 1 else 'are'} gone ({kept})")
        plural = "s" * (number != 1)
        return f"{number} known failure{plural} replayed first: {', '.join(parts)}"


@attrs.define
class Store:
    """What is kept of one target.

    Args:
        target: as it was named.  options: how it is set up.
        folder: where.
    """

    target: str
    options: Options = ()
    folder: Path = attrs.Factory(lambda: FOLDER)

    # -- failures ----------------------------------------------------------------------------------

    def keep(self, failures: Iterable[Failure]) -> None:
        """Keep failures, each in place of the last of its signature."""
        for number, failure in enumerate(failures):
            v = failure.violation
            _write(
                self._place(failure),
                {
                    "version": _VERSION,
                    "target": self.target,
                    "options": dict(self.options),
                    "scenario": failure.scenario,
                    "rule": v.rule,
                    "kind": v.kind,
                    "blamed": v.blamed,
                    "where": v.where,
                    "summary": v.summary,
                    "number": number,
                    "token": failure.token,
                },
                indent=1,
            )

    def replay_known(self, program: Callable[[Token], Program], races: bool = True) -> Replays:
        """Replay what is known of this target, in the order it was found in.

        Args:
            program: what a token runs.
            races: replay known races, too.

        Raises:
            EngineError: a failure is gone although nothing has changed.
            KeyboardInterrupt: Ctrl-C.
        """
        result = Replays()
        for path, token in self._known(result.refused):
            if token.rule.startswith("race.") and not races:
                continue
            try:
                again = replay(token, program(token))
            except LookupError as error:  # the scenario it was found in is no more
                result.refused.append(f"{path}: {error.args[0] if error.args else error}")
                continue
            if again.interrupted:
                raise KeyboardInterrupt
            wanted = (token.rule, token.blamed)
            found = [f for f in again.failures if f.violation.signature[:2] == wanted]
            if found:
                result.still.append(found[0])
                if self._place(found[0]) != path:  # it moved
                    self._set_aside(path)
                continue
            if again.broken and not token.rule.startswith("no-progress"):
                raise EngineError(
                    f"{path} should fail again, since nothing changed, and does not: {again.broken}"
                )
            result.gone += 1
            self._set_aside(path)
        return result

    def _known(self, refused: list[str]) -> Iterator[tuple[Path, Token]]:
        found = []
        for path in sorted(self._failures.glob("*.json")):
            try:
                data = _read(path)
                if (data["target"], data["options"]) == (self.target, dict(self.options)):
                    found.append((int(data["number"]), path, _token(data)))
            except (Damaged, BadToken) as error:
                refused.append(_sentence(path, error))
            except (KeyError, TypeError, ValueError):
                refused.append(_sentence(path, "something is missing from it"))
        for _, path, token in sorted(found, key=lambda entry: entry[:2]):
            yield path, token

    @property
    def _failures(self) -> Path:
        return self.folder / "failures"

    def _place(self, failure: Failure) -> Path:
        v = failure.violation
        return self._failures / _file_name(v.rule, self.target, self.options, v.signature)

    def _set_aside(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            (self._failures / "fixed").mkdir(exist_ok=True)
            path.replace(self._failures / "fixed" / path.name)

    # -- campaigns ---------------------------------------------------------------------------------

    def save(self, strategy: str, seed: int, campaigns: Mapping[str, Campaign]) -> None:
        """Keep how far the searches have come, by the name of the scenario."""
        _write(
            self._campaign(strategy, seed),
            {
                "version": _VERSION,
                "target": self.target,
                "strategy": strategy,
                "seed": seed,
                **self._identity(),
                "campaigns": {name: c.as_dict() for name, c in campaigns.items()},
            },
        )

    def resume(self, strategy: str, seed: int) -> tuple[dict[str, Campaign], str]:
        """How far they have come, and why they start anew if they do.

        Raises:
            Damaged: the file cannot be used.
        """
        path = self._campaign(strategy, seed)
        if not path.exists():
            return {}, "nothing is known of an earlier search with this strategy and seed"
        try:
            data = _read(path)
            if any(data[key] != value for key, value in self._identity().items()):
                return {}, "the target or vfsim changed since"
            return {name: campaign_of(c) for name, c in data["campaigns"].items()}, ""
        except Damaged as error:
            raise Damaged(_sentence(path, error)) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Damaged(_sentence(path, "something is missing from it")) from None

    def _identity(self) -> dict[str, str]:
        return {"sources": identity.sources(self.target), "engine": identity.engine()}

    def _campaign(self, strategy: str, seed: int) -> Path:
        place = self.target.rpartition("/")[2]
        name = _file_name(f"{place}-{strategy}", self.target, self.options, strategy, seed)
        return self.folder / "campaigns" / name


# -- files -----------------------------------------------------------------------------------------


def _file_name(readable: str, *what: Any) -> str:
    """A name that people can read and that differs for different things."""
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', readable).strip('-.')[:60]}-{digest}.json"


def _token(data: dict[str, Any]) -> Token:
    token = decode(data["token"])
    if (token.rule, token.blamed, token.scenario) != (
        data["rule"], data["blamed"], data["scenario"],
    ):  # fmt: skip
        raise Damaged("its token is not the token of what it tells")
    return token


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_FILE:
            raise Damaged("it is too large")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(f"it cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise Damaged("it is no JSON") from None
    if not isinstance(data, dict):
        raise Damaged("it is no JSON object")
    if data.get("version") != _VERSION:
        raise Damaged(f"it is of version {data.get('version')!r}, not {_VERSION}")
    return data


def _write(path: Path, data: dict[str, Any], indent: int | None = None) -> None:
    """Write beside its place, and move it there.  Where nothing can be written, nothing is kept."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            try:
                _read(path)
            except Damaged:
                path.replace(path.with_name(path.name + ".damaged"))
        scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            scratch.write_text(json.dumps(data, indent=indent) + "\n", encoding="utf-8")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def _sentence(path: Path, why: object) -> str:
    return f"{path} is not used and stays as it is: {why}"
