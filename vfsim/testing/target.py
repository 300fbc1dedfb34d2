"""Targets: what people name on the command line, and what they get told when it is not there.

A target is ``file.py``, ``file.py:Name``, ``module`` or ``module:Name``.  Without a name it must
hold exactly one of what
is looked for: classes that the file itself defines, or else those it imports.

Whatever is wrong with a target is one clear sentence, `BadTarget`; where the author's own code is
at fault it begins with the file and line of it.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import attrs

from vfsim.explore import identity
from vfsim.fs.operations import FileSystemType
from vfsim.testing.rounds import RoundsProgram, Setting, decode
from vfsim.testing.scenario import Scenario, ScenarioProgram, as_small

if TYPE_CHECKING:
    from types import ModuleType

    from vfsim.explore.program import Program
    from vfsim.explore.token import Token


class BadTarget(ValueError):
    """A target that cannot be used; the message is one sentence for people."""


@attrs.frozen
class Target:
    """A loaded target.

    Attributes:
        text: as it was named.
        place: the file or module.  name: what follows the colon, or "".
        module: what was imported.
    """

    text: str
    place: str
    name: str
    module: ModuleType

    def filesystem(self) -> type[FileSystemType]:
        """The filesystem.

        Raises:
            BadTarget: there is none, or several and none was named.
        """
        found: type[FileSystemType] = self._only(FileSystemType, "filesystem", "FileSystemType")
        try:
            found()
        except Exception as error:
            raise BadTarget(
                f"{_line(error, self.place)}: {found.__name__}() cannot be made without arguments: "
                f"{' '.join(str(error).split())}"
            ) from None
        return found

    def scenario(self) -> type[Scenario]:
        """The scenario.

        Raises:
            BadTarget: there is none, or several and none was named.
        """
        found: type[Scenario] = self._only(Scenario, "scenario", "vfsim.Scenario")
        return found

    def machine(self) -> type[Setting]:
        """The machine (`VfsMachine`), or a plain one for the filesystem that is there.

        Raises:
            BadTarget: there is neither, or several and none was named.
        """
        thing = getattr(self.module, self.name, None) if self.name else None
        machines = [thing] if isinstance(thing, type) else _classes(self.module, Setting)
        if not any(issubclass(machine, Setting) for machine in machines):
            return plain_setting(self.filesystem(), self.text)
        found: type[Setting] = self._only(Setting, "machine", "VfsMachine")
        if found.filesystem is None:
            raise BadTarget(f"{self.place}: {found.__name__} needs a line filesystem = YourFS")
        return found

    def holds_scenario(self) -> bool:
        """Whether a scenario is meant: it is named, or there is one."""
        if self.name:
            thing = getattr(self.module, self.name, None)
            return isinstance(thing, type) and issubclass(thing, Scenario)
        return bool(_classes(self.module, Scenario))

    def function(self) -> Any:
        """The plain function that was named, or None."""
        thing = getattr(self.module, self.name, None) if self.name else None
        return thing if callable(thing) and not isinstance(thing, type) else None

    def _only(self, base: type, what: str, spelled: str) -> Any:
        if self.name:
            return self._named(base, what, spelled)
        found = _classes(self.module, base)
        if len(found) == 1:
            return found[0]
        if not found:
            raise BadTarget(f"{self.place} holds no {what}: it defines no subclass of {spelled}")
        names = ", ".join(c.__name__ for c in found)
        raise BadTarget(
            f"{self.place} holds {len(found)} {what}s ({names}): name one, as in "
            f"{self.place}:{found[0].__name__}"
        )

    def _named(self, base: type, what: str, spelled: str) -> Any:
        thing = getattr(self.module, self.name, None)
        if thing is None:
            close = difflib.get_close_matches(
                self.name, [c.__name__ for c in _classes(self.module, base)], 1
            )
            hint = f"; did you mean {close[0]}?" if close else ""
            raise BadTarget(f"{self.place} holds nothing called {self.name}{hint}")
        if not (isinstance(thing, type) and issubclass(thing, base)) or thing is base:
            raise BadTarget(
                f"{self.name} in {self.place} is no {what}: it is no subclass of {spelled}"
            )
        return thing


def plain_setting(filesystem: type[FileSystemType], target: str) -> type[Setting]:
    """A machine's setting for a filesystem that has none of its own."""
    body = {"filesystem": filesystem, "target": target, "__module__": __name__}
    return type(f"{filesystem.__name__}Machine", (Setting,), body)


def _classes(module: ModuleType, base: type) -> list[Any]:
    """The subclasses of ``base`` that a module defines, or else those it imports.

    What begins with an underscore, and what is only the base of others, does not count.
    """
    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, base)
        and value is not base
        and not name.startswith("_")
    ]
    found = list(dict.fromkeys(found))
    own = [c for c in found if c.__module__ == module.__name__]
    whole = [c for c in own if _is_whole(c) or not any(issubclass(d, c) for d in own if d is not c)]
    return whole or [c for c in found if not c.__module__.startswith("vfsim.")] or found


def _is_whole(cls: Any) -> bool:
    """Whether a class can be used as it is, and is not just the base of others."""
    if issubclass(cls, Setting):
        return cls.filesystem is not None
    return bool(cls.tasks() if issubclass(cls, Scenario) else cls.name)


def load(text: str) -> Target:
    """Import a target.

    Raises:
        BadTarget: it is not there, or cannot be imported.
    """
    place, colon, name = text.partition(":")
    if not place or (colon and not name.isidentifier()) or not text.isprintable():
        raise BadTarget(f"a target is file.py, file.py:Name, module or module:Name; got {text!r}")
    if place.endswith(".py") or os.sep in place or os.path.isfile(place):
        module = _load_file(place)
    else:
        module = _load_module(place)
    return Target(text, place, name, module)


def _load_file(place: str) -> ModuleType:
    path = os.path.abspath(place)
    if os.path.isdir(path):
        raise BadTarget(f"{place} is a directory, and a target is a Python file or module")
    if not os.path.isfile(path):
        raise BadTarget(f"there is no file {place}")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == path:
            return module
    folder = os.path.dirname(path)
    name = _module_name(path, folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadTarget(f"{place} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        _importing(place, path, lambda: spec.loader.exec_module(module))
    except BadTarget:
        del sys.modules[name]
        raise
    return module


def _module_name(path: str, folder: str) -> str:
    """What to call the module of a file: its own name, unless that is somebody else's."""
    stem = os.path.splitext(os.path.basename(path))[0]
    known = stem in sys.modules or stem in sys.stdlib_module_names or stem == "vfsim"
    if known or not stem.isidentifier():
        return f"vfsim_target_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    return stem


def _load_module(place: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise BadTarget(f"there is no file {place}, and it is no module's name either")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    found: list[ModuleType] = []
    _importing(place, "", lambda: found.append(importlib.import_module(place)))
    return found[0]


def _importing(place: str, path: str, work: Any) -> None:
    """Import something; whatever goes wrong is a sentence beginning with the author's line."""
    try:
        work()
    except KeyboardInterrupt:
        raise
    except SyntaxError as error:
        where = (
            f"{os.path.relpath(error.filename) if error.filename else place}:{error.lineno or '?'}"
        )
        raise BadTarget(f"{where}: this is not Python: {error.msg}") from None
    except ModuleNotFoundError as error:
        if not path and error.name and (place == error.name or place.startswith(error.name + ".")):
            raise BadTarget(
                f"there is no module {place} (no file of that name here either)"
            ) from None
        raise BadTarget(f"{_line(error, place)}: {place} cannot be imported: {error}") from None
    except SystemExit as error:
        where = _line(error, place)
        raise BadTarget(
            f"{where}: importing {place} ends the program; put what is no definition under "
            'if __name__ == "__main__":'
        ) from None
    except BaseException as error:
        message = " ".join(str(error).split())
        kind = (
            ""
            if isinstance(error, TypeError) and "vfsim" in _origin(error)
            else f"{type(error).__name__}: "
        )
        raise BadTarget(f"{_line(error, place)}: {kind}{message or type(error).__name__}") from None


def _line(error: BaseException, place: str) -> str:
    """``file:line`` of the innermost frame that is the author's."""
    where = place
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith("<") and not identity.foreign(os.path.abspath(file)):
            near = os.path.relpath(file)
            where = f"{file if near.startswith(os.pardir) else near}:{line}"
    return where


def _origin(error: BaseException) -> str:
    """The module of the innermost frame."""
    name = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
    return name


def program_for(token: Token) -> Program:
    """What a token runs.

    Raises:
        BadTarget: its target is not here, or does not hold what the token names.
        LookupError: this vfsim has no such scenario, or it has no such part to leave out.
    """
    return as_small(_whole(token), dict(token.options))


def _whole(token: Token) -> Program:
    """The same, with the parts that the token leaves out."""
    from vfsim.explore.program import FunctionProgram
    from vfsim.testing import check

    if not token.target:
        raise BadTarget(
            f"the scenario {token.scenario} is defined inside a function, where no command can "
            "find it: move it to the top of its file and explore it again"
        )
    target = load(token.target)
    options = dict(token.options)
    rounds = options.get("program")
    if isinstance(rounds, str):
        return RoundsProgram(target.machine(), decode(rounds), target=token.target)
    device = options.get("device")
    mount_options = options.get("mount-options")
    faults = str(options.get("faults", ""))
    if target.holds_scenario():
        return ScenarioProgram(
            target.scenario(),
            device=device if isinstance(device, int) else None,
            mount_options=mount_options if isinstance(mount_options, str) else "",
            target=token.target,
            faults=faults,
            audit=bool(options.get("audit")),
        )
    function = target.function()
    if function is not None:
        return FunctionProgram(function)
    subject = check.Subject(
        token.target,
        target.filesystem(),
        device if isinstance(device, int) else None,
        mount_options if isinstance(mount_options, str) else "",
        faults,
        bool(options.get("audit")),
    )
    return subject.program(token.scenario)
