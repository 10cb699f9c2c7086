"""Files of a store that is a folder: written so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path


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
