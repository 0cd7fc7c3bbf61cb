"""A guard of the protocol, and how it is taken out of a copy of the package."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "airflow_provider_sendoso"


class MisfitError(Exception):
    """The text that an edit replaces is not, or not exactly once, where the edit looks for it."""


@dataclass(frozen=True)
class Edit:
    """
    The replacement of one text.

    :param place: a file of the package, and after a colon a function or method of it, in which the text stands; without
        one, the whole file.
    :param old: the text; it has to stand there exactly once.
    :param new: what stands there afterwards.
    """

    place: str
    old: str
    new: str

    def apply(self, package: Path) -> None:
        """
        Make the replacement.

        :param package: the copy of the package.
        :raises MisfitError: if the text does not stand there exactly once, or if the result is no Python.
        """
        name, _, function = self.place.partition(":")
        file = package / name
        source = file.read_text(encoding="utf-8")
        first, last = _lines_of(source, function) if function else (0, len(source.splitlines()))
        lines = source.splitlines(keepends=True)
        text = "".join(lines[first:last])
        if text.count(self.old) != 1:
            raise MisfitError(f"{self.place} has {text.count(self.old)} times, and not once: {self.old}")
        mutated = "".join([*lines[:first], text.replace(self.old, self.new), *lines[last:]])
        try:
            same = ast.dump(ast.parse(mutated)) == ast.dump(ast.parse(source))
        except SyntaxError as error:
            raise MisfitError(f"{self.place} is no Python any more with: {self.new} ({error})") from None
        if same:
            raise MisfitError(f"{self.place} means the same with: {self.new}")
        file.write_text(mutated, encoding="utf-8")


@dataclass(frozen=True)
class Guard:
    """
    A guard: something that the protocol does not do without.

    :param name: a short name, for the command line.
    :param holds: what the guard ensures, as a sentence.
    :param edits: take it out.
    :param tests: the tests that notice it, as ``path::name`` below ``tests/``; each of them has to.
    :param explored: whether the explorer is asked, too.
    :param database: the ledger's database in the tests.
    :param spare: why nothing can notice that it is taken out alone; then nothing has to.
    """

    name: str
    holds: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = ()
    explored: bool = False
    database: str = "sqlite"
    spare: str = ""

    def take_out(self, package: Path) -> None:
        """
        Make all edits.

        :param package: the copy of the package.
        :raises MisfitError: if the package has changed since the guard was written down.
        """
        for edit in self.edits:
            edit.apply(package)

    @property
    def places(self) -> list[str]:
        """Where the guard lives: each file with its function."""
        return list(dict.fromkeys(edit.place for edit in self.edits))

    @property
    def digest(self) -> str:
        """A hash of the edits: what was measured with others says nothing of these."""
        edits = "\0".join(text for edit in self.edits for text in (edit.place, edit.old, edit.new))
        return hashlib.sha256(edits.encode()).hexdigest()[:12]


def guard(
    name: str,
    holds: str,
    place: str,
    old: str,
    new: str,
    *tests: str,
    also: tuple[Edit, ...] = (),
    explored: bool = False,
    database: str = "sqlite",
    spare: str = "",
) -> Guard:
    """Write a guard of one edit down, or of several; the parameters are those of :class:`Guard` and :class:`Edit`."""
    return Guard(name, holds, (Edit(place, old, new), *also), tests, explored, database, spare)


def _lines_of(source: str, name: str) -> tuple[int, int]:
    """Return the lines of a function or method: the number of the first, from 0, and of that after the last."""
    body = ast.parse(source).body
    found: ast.stmt | None = None
    for part in name.split("."):
        definitions = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
        matching = [node for node in body if isinstance(node, definitions) and node.name == part]
        if len(matching) != 1:
            raise MisfitError(f"there is no function {name}")
        found, body = matching[0], matching[0].body
    assert found is not None
    assert found.end_lineno is not None
    return found.lineno - 1, found.end_lineno
