"""Files of a store that is a folder: written so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def put(path: Path, data: bytes, folder: Path, *, only_new: bool = False) -> None:
    """Write a file that has its name only when it is whole.

    Parameters
    ----------
    path
        Its name.
    data
        Its bytes.
    folder
        On the same file system, where it grows.
    only_new
        Whether it may not replace another one.

    Raises
    ------
    OSError
        It could not be written, or, where it may not be, it is there already; what was there before stays.
    """
    for each in (path.parent, folder):
        each.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp gives a file that only its owner may read; a mirror is to be read.
        Path(temporary).chmod(0o644)
        if only_new:
            path.hardlink_to(temporary)  # fails where there is a file of this name, also one of a moment ago
        else:
            Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def delete(path: Path) -> None:
    """Remove a file, or a folder with all that it holds; silent where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
