"""The command that lists the example DAGs of the package, and copies them to where Airflow finds them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from pathlib import Path

import airflow_provider_sendoso
from airflow_provider_sendoso.exceptions import SendosoConfigError

Say = Callable[[str], None]


def examples(copy_to: str | None, only: Sequence[str] | None, *, overwrite: bool, say: Say = print) -> None:
    """
    List the example DAGs, or copy them.

    :param copy_to: a folder, which is made if it is missing; ``None`` lists them.
    :param only: the names of those that are meant; ``None`` means all.
    :param overwrite: whether to replace files that were changed.
    :param say: shows a line.
    :raises SendosoConfigError: for an example that there is not, or a file that would be lost; nothing was copied.
    """
    files = {path.stem: path for path in sorted(_folder().glob("*.py"))}
    named = [name.removesuffix(".py") for name in only] if only else list(files)
    unknown = [name for name in named if name not in files]
    if unknown:
        raise SendosoConfigError(
            f"There is no example {', '.join(unknown)}; there are {', '.join(files)}. Nothing was copied."
        )
    if copy_to is None:
        for name in named:
            say(f"{name:<22}{_summary(files[name])}")
        say("Copy them with --copy-to, a few of them with --only.")
        return
    folder = Path(copy_to)
    _copy({folder / files[name].name: files[name].read_bytes() for name in named}, overwrite=overwrite)
    say(f"{len(named)} examples are in {folder}: {', '.join(named)}. Their DAGs are paused until you unpause them.")


def _copy(files: dict[Path, bytes], *, overwrite: bool) -> None:
    try:
        changed = [path.name for path, content in files.items() if path.exists() and path.read_bytes() != content]
        if changed and not overwrite:
            raise SendosoConfigError(
                f"{', '.join(changed)}: there already, with another content; --overwrite replaces them. Nothing was "
                "copied."
            )
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise SendosoConfigError(f"The examples could not be written: {error}.") from None


def _folder() -> Path:
    """Return where the examples are: in a wheel within the package, in a clone beside it."""
    package = Path(airflow_provider_sendoso.__file__).parent
    installed = package / "example_dags"
    return installed if installed.is_dir() else package.parent / "dags_examples"


def _summary(path: Path) -> str:
    """Return the first line of an example's docstring."""
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    return text.partition("\n")[0]
