"""Files of this machine: read and listed, and written so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final

_SCHEMES: Final = ("file://", "file:", "local://", "local:")


def local_path(url: str) -> str | None:
    """Return the absolute path that a path or ``file://`` URL stands for; None for what is no file of this machine."""
    for scheme in _SCHEMES:
        if url.startswith(scheme):
            return str(Path(url.removeprefix(scheme)).absolute())
    return None if "://" in url or "::" in url else str(Path(url).expanduser().absolute())


class LocalFiles:
    """The few operations of fsspec that stores need, by fsspec's names, on files of this machine.

    fsspec's own take as long to load as a small volume takes to convert, and ten times as long to list a mirror.
    Links to files are those files; links to folders are not followed.
    """

    protocol = ("file", "local")

    def exists(self, path: str) -> bool:
        """Whether there is anything."""
        return Path(path).exists()

    def info(self, path: str) -> dict[str, Any]:
        """Return type and size of a file or folder."""
        return _info(path, Path(path).stat())

    def ls(self, path: str, *, detail: bool = False) -> list[str]:
        """Return the paths of what lies directly in a folder."""
        if detail:
            raise NotImplementedError("stores need names only")
        with os.scandir(path) as entries:
            return [entry.path for entry in entries]

    def find(self, path: str, *, detail: bool = True) -> dict[str, dict[str, Any]]:
        """Return type and size of all files below a folder, by path, sorted; of a file, its own."""
        del detail  # always
        if Path(path).is_dir():
            return dict(sorted(_below(path)))
        return {path: self.info(path)} if self.exists(path) else {}

    def cat_file(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return Path(path).read_bytes()

    def open(self, path: str, mode: str) -> BinaryIO:
        """Open a file for reading."""
        if mode != "rb":
            raise NotImplementedError("`put` writes")
        return Path(path).open("rb")

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        Path(path).unlink()

    def unstrip_protocol(self, path: str) -> str:
        """Return the URL of a file."""
        return f"file://{path}"

    def invalidate_cache(self) -> None:
        """Do nothing: nothing is kept."""


def _below(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _below(entry.path)
                elif not entry.is_dir():
                    yield entry.path, _info(entry.path, entry.stat())
            except FileNotFoundError:
                # Gone meanwhile; or a link to nothing, which whoever opens it will be told.
                if entry.is_symlink():
                    yield entry.path, {"name": entry.path, "type": "other", "size": 0}


def _info(path: str, status: os.stat_result) -> dict[str, Any]:
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "file" if stat.S_ISREG(status.st_mode) else "other"
    return {"name": path, "type": kind, "size": status.st_size}


def put(path: Path, data: bytes | Sequence[bytes], folder: Path, *, only_new: bool = False) -> None:
    """Write a file that has its name only when it is whole.

    Parameters
    ----------
    path
        Its name.
    data
        Its bytes, or its parts.
    folder
        On the same file system, where it grows.
    only_new
        Whether it may not replace another one.

    Raises
    ------
    OSError
        It could not be written, or, where it may not be, it is there already; what was there before stays.
    """
    handle, temporary = _in(folder, lambda: tempfile.mkstemp(dir=folder))
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            for part in (data,) if isinstance(data, bytes) else data:
                _write(file, part)
            # mkstemp gives a file that only its owner may read; a mirror is to be read.
            os.fchmod(handle, 0o644)
        if only_new:
            _in(path.parent, lambda: path.hardlink_to(temporary))  # fails where there is a file of this name
            Path(temporary).unlink()
        else:
            _in(path.parent, lambda: os.replace(temporary, path))  # noqa: PTH105  # a Path for each of a million files
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _in[T](folder: Path, call: Callable[[], T]) -> T:
    """Call, and once more where the folder had to be made first: most files go where others are."""
    try:
        return call()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return call()


def _write(file: FileIO, part: bytes) -> None:
    view = memoryview(part)
    while view:
        view = view[file.write(view) :]


def delete(path: Path) -> None:
    """Remove a file, or a folder with all that it holds; silent where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
