"""Copies of what a test needs, each with a package of its own that can be changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mutants.guard import PACKAGE, Guard

ROOT = Path(__file__).parent.parent
_COPIED = (PACKAGE, "explorer", "tests")
_LINKED = ("dags_examples", "pyproject.toml")


@contextmanager
def tree_without(guard: Guard | None) -> Iterator[Path]:
    """
    Make a copy of the package, its tests and the explorer, without a guard; it is removed afterwards.

    :param guard: what is taken out; nothing is, if there is none.
    :return: the directory of the copy.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as name:
        tree = Path(name)
        for part in _COPIED:
            if (ROOT / part).exists():
                # With the compiled files, which stay valid: the copies have the times of the originals.
                shutil.copytree(ROOT / part, tree / part, copy_function=shutil.copy2)
        for part in _LINKED:
            (tree / part).symlink_to(ROOT / part)
        if guard is not None:
            guard.take_out(tree / PACKAGE)
        yield tree


def environment_of(tree: Path) -> dict[str, str]:
    """
    Return the environment in which Python imports a copy, and not the package that is installed.

    :param tree: the copy.
    """
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": ""}
