"""What lies below a source: a folder, a bucket prefix, an index of a web server, or one zip archive."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import unquote

from corpus.errors import SettingsError
from corpus.stores import filesystem, protocols, retrying, store_errors
from corpus.webindex import linked_files

_AT_ONCE: Final = 16
"""Requests under way at once, where the size of each file has to be asked for."""


class SourceListing:
    """The files below a source folder, bucket prefix or HTTP index, by name relative to it; or one zip archive.

    Parameters
    ----------
    url
        A path or URL.

    Attributes
    ----------
    sizes
        Bytes of each file, by name.
    unreadable
        Names of files that are listed and cannot be had, and why.

    Raises
    ------
    SettingsError
        The URL's protocol is not known, or there is no such place.
    StoreError
        It cannot be listed.
    """

    def __init__(self, url: str) -> None:
        fs, root = filesystem(url)
        self._fs = fs
        self._paths: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}
        root = root.rstrip("/")
        with store_errors(url):
            fs.invalidate_cache()
            if is_archive(root) and self._is_file(root):
                self._add({archive_name(root): root})
                return
            # Over HTTP a folder may answer under its name with a slash only.
            if not (fs.exists(root) or fs.exists(f"{root}/")):
                raise SettingsError("settings.url", "there is no such folder or archive", place=url)
            if "http" in protocols(fs):
                self._add({unquote(path[len(root) + 1 :]): path for path in linked_files(fs, root)})
            else:
                found = retrying(fs, lambda: fs.find(root, detail=True))
                self._paths = {path[len(root) + 1 :]: path for path in found}
                self.sizes = {path[len(root) + 1 :]: int(info["size"]) for path, info in found.items()}

    def _add(self, paths: dict[str, str]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            sizes = pool.map(self._size, paths.values())
            for (name, path), size in zip(paths.items(), sizes, strict=True):
                if isinstance(size, int):
                    self._paths[name], self.sizes[name] = path, size
                else:
                    self.unreadable[name] = size

    def _is_file(self, path: str) -> bool:
        try:
            return bool(retrying(self._fs, lambda: self._fs.info(path))["type"] == "file")
        except FileNotFoundError:
            return False

    def _size(self, path: str) -> int | str:
        try:
            size = retrying(self._fs, lambda: self._fs.info(path))["size"]
        except FileNotFoundError:
            return "it is listed, and the server does not give it"
        return "the server does not tell its size" if size is None else int(size)

    def url(self, name: str) -> str:
        """Return a URL that fsspec opens, also on another machine with the same storage."""
        return str(self._fs.unstrip_protocol(self._paths[name]))


def is_archive(url: str) -> bool:
    """Whether a path or URL is that of a zip archive, by its name."""
    return archive_name(url).lower().endswith(".zip")


def archive_name(url: str) -> str:
    """Return the file name of a path or URL; a signed URL has its signature after it."""
    if "://" not in url:
        return url.rpartition("/")[2]
    path = url if url.startswith("file:") else url.partition("?")[0]
    return unquote(path.rpartition("/")[2])
