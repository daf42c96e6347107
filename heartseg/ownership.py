"""What heartseg made in a folder: the record by which ``--overwrite`` knows what it may remove."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from heartseg.errors import DataError, HeartsegError
from heartseg.files import (
    UNFINISHED,
    list_folder,
    read_json,
    remove_unfinished,
    replacing,
    write_json,
)
from heartseg.lock import LOCK, locked

RECORD = ".heartseg.json"
"""Name of the file in which a folder says what which command made in it."""


@dataclass(frozen=True)
class Outputs:
    """What a command writes into a folder.

    Attributes:
        command: The command, as a user types it after ``heartseg``. What it made is recorded under
            this name.
        patterns: How its files are named: paths relative to the folder, with ``*`` in the name of
            a file or folder, and ``**`` at the end for everything below a folder.
        shared: Whether files that match no pattern may lie in the folder.
        beside: Entries that lie beside the files without being theirs. A folder that version 0.1
            filled has no record; it is recognised if it holds nothing else.
        known_by_name: Whether such a folder can be recognised: not if other people's files have the
            same names.
    """

    command: str
    patterns: tuple[str, ...]
    shared: bool = False
    beside: tuple[str, ...] = ()
    known_by_name: bool = True


@dataclass(frozen=True)
class Made:
    """What a command made in a folder.

    Attributes:
        files: Paths relative to the folder, with forward slashes.
        complete: Whether the command came to its end.
    """

    files: tuple[str, ...]
    complete: bool


def read_made(folder: Path) -> dict[str, Made]:
    """Return what each command made in a folder; nothing where there is no record.

    Raises:
        DataError: If the record is damaged.
    """
    file = folder / RECORD
    if not file.is_file():
        return {}
    content = read_json(file).get("made")
    try:
        return {str(name): _read_entry(entry) for name, entry in dict(content or {}).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: the record of what heartseg made is damaged ({error}); remove this file, and "
            "the results beside it that are not needed any more"
        ) from error


def _read_entry(entry: Mapping[str, Any]) -> Made:
    files = tuple(str(name) for name in entry["files"])
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
            raise ValueError(f"expected a path below the folder, found {name!r}")
    return Made(files, bool(entry["complete"]))


def _write_made(folder: Path, command: str, made: Made | None) -> None:
    """Write what one command made; that of others stays."""
    known = {name: entry for name, entry in read_made(folder).items() if name != command}
    if made is not None:
        known[command] = made
    file = folder / RECORD
    if not known:
        file.unlink(missing_ok=True)
        return
    entries = {
        name: {"complete": entry.complete, "files": list(entry.files)}
        for name, entry in sorted(known.items())
    }
    write_json(file, {"made": entries})


def find_outputs(folder: Path, outputs: Outputs) -> list[str]:
    """List the files in a folder that are named like those of a command, in natural order.

    Links are listed, and never followed out of the folder.
    """
    found = {
        file: None
        for pattern in outputs.patterns
        for file in _match(folder, PurePosixPath(pattern).parts)
    }
    return [file.relative_to(folder).as_posix() for file in found]


def _match(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    head, rest = parts[0], parts[1:]
    for entry in list_folder(folder, missing_ok=True):
        is_folder = entry.is_dir() and not entry.is_symlink()
        if head == "**":
            if is_folder:
                yield from _match(entry, parts)
            else:
                yield entry
        elif fnmatchcase(entry.name, head):
            if is_folder and rest:
                yield from _match(entry, rest)
            elif not is_folder and (not rest or entry.is_symlink()):
                yield entry


def claim_folder(folder: Path, outputs: Outputs, *, overwrite: bool) -> None:
    """Make sure that a command may fill a folder, and remove the results that it will replace.

    Only what the record says that this command made is removed, or all that an interrupted call of
    this command left. The record then says that the command is at work.

    Args:
        folder: The folder; created if missing.
        outputs: What the command writes.
        overwrite: Whether the user asked to replace earlier results.

    Raises:
        DataError: If the folder holds files and ``overwrite`` is not set; if this command did not
            make what it would replace; or if it is not a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be used as a folder ({error.strerror})") from error
    _remove(folder, _find_replaceable(folder, outputs, overwrite=overwrite))
    begin_record(folder, outputs)


def _find_replaceable(folder: Path, outputs: Outputs, *, overwrite: bool) -> Sequence[str]:
    """Return the files that the command may remove, and will.

    Raises:
        DataError: If the user did not ask for it, or files that are not the command's are in the
            way.
    """
    made = read_made(folder).get(outputs.command)
    found = find_outputs(folder, outputs)
    held = found if outputs.shared else _list_held(folder)
    if not held:
        return ()
    if made is not None and not made.complete:
        return found
    if made is None and _was_made_before(folder, outputs):
        overwrite = overwrite or (folder / UNFINISHED).is_file()
        made = Made(tuple(found), complete=True)
    shown = f"{held[0]}{' and more' if len(held) > 1 else ''}"
    if made is None:
        raise DataError(
            f"{folder}: holds {shown}, which `heartseg {outputs.command}` did not make; it would "
            "replace files that it does not know, and --overwrite replaces its own results only. "
            "Choose another folder"
        )
    if not overwrite:
        raise DataError(
            f"{folder}: already holds {shown}; pass --overwrite to replace earlier results, or "
            "choose another folder"
        )
    strangers = [name for name in found if name not in set(made.files)]
    if strangers:
        raise DataError(
            f"{folder / strangers[0]}: is named like a result of `heartseg {outputs.command}`, but "
            "was not written by it; move it out of the folder, or choose another folder"
        )
    return made.files


def _list_held(folder: Path) -> list[str]:
    """List what lies visibly in a folder, apart from what heartseg needs for itself."""
    own = (LOCK, UNFINISHED)
    names = [entry.name for entry in list_folder(folder)]
    return [name for name in names if not name.startswith(".") and name not in own]


def _was_made_before(folder: Path, outputs: Outputs) -> bool:
    """Return whether version 0.1, which left no record, filled a folder by this command."""
    if (folder / RECORD).exists() or not outputs.known_by_name:
        return False
    tops = [PurePosixPath(pattern).parts[0] for pattern in outputs.patterns]
    known = [*tops, *outputs.beside]
    return all(any(fnmatchcase(name, top) for top in known) for name in _list_held(folder))


def begin_record(folder: Path, outputs: Outputs) -> None:
    """Note that a command is at work in a folder."""
    _write_made(folder, outputs.command, Made((), complete=False))


def finish_record(folder: Path, outputs: Outputs) -> None:
    """Note what a command made in a folder."""
    files = tuple(find_outputs(folder, outputs))
    _write_made(folder, outputs.command, Made(files, complete=True))


def add_to_record(folder: Path, command: str, files: Sequence[Path]) -> None:
    """Note some more files that a command made in a folder."""
    known = read_made(folder).get(command, Made((), complete=True)).files
    names = (file.relative_to(folder).as_posix() for file in files)
    _write_made(folder, command, Made(tuple(dict.fromkeys((*known, *names))), complete=True))


def check_own(file: Path, command: str) -> None:
    """Make sure that a file that is there, and is to be replaced, was made by a command.

    Raises:
        DataError: If it was not.
    """
    made = read_made(file.parent).get(command)
    if file.exists() and (made is None or file.name not in made.files):
        raise DataError(
            f"{file}: there is no record that `heartseg {command}` made this file, and --overwrite "
            "replaces its own results only; move the file, or choose another --output"
        )


def discard(folder: Path, outputs: Outputs) -> None:
    """Remove what a command left that failed before it had anything worth keeping."""
    _remove(folder, find_outputs(folder, outputs))
    _write_made(folder, outputs.command, None)


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove files, and the folders that are empty without them."""
    emptied: set[Path] = set()
    for name in names:
        file = folder / name
        inside = [parent for parent in file.parents if folder in parent.parents]
        if any(parent.is_symlink() for parent in inside):
            continue
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{file}: cannot be removed ({error.strerror})") from error
        emptied.update(inside)
    for parent in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        _remove_if_empty(parent)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def filling(folder: Path, outputs: Outputs, *, overwrite: bool) -> Iterator[None]:
    """Claim a folder for results that are complete only when the block ends without an error.

    Until then the folder is locked and holds a marker file. A call that finds that an earlier one
    of the same command was interrupted starts over even without ``overwrite``, because incomplete
    results are not worth keeping. A block that fails before it wrote anything leaves nothing.

    Args:
        folder: The folder; created if missing.
        outputs: What the command writes.
        overwrite: Whether the user asked to replace earlier results.

    Raises:
        DataError: If the folder holds complete results or other files and ``overwrite`` is not
            set, if this command did not make them, or if another process is filling it.
    """
    marker = folder / UNFINISHED
    with locked(folder):
        claim_folder(folder, outputs, overwrite=overwrite)
        with replacing(marker) as temporary:
            temporary.write_text(
                "The results in this folder are incomplete. Run the command again: it starts "
                "over.\n"
            )
        try:
            yield
        except HeartsegError:
            if not find_outputs(folder, outputs):
                discard(folder, outputs)
                marker.unlink(missing_ok=True)
            raise
        finish_record(folder, outputs)
        marker.unlink(missing_ok=True)
