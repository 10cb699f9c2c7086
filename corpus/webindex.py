"""Folders on a web server: what its index pages link to."""

from __future__ import annotations

from typing import Any, Final

_DEEPEST_INDEX: Final = 12
"""Folders in folders that are followed over HTTP, where an index may link in circles."""


def linked_files(fs: Any, root: str) -> list[str]:
    """Return the URLs of all files below an HTTP folder whose index pages link to what they hold."""
    files: set[str] = set()
    folders = [f"{root}/"]
    for _ in range(_DEEPEST_INDEX):
        links: set[str] = set()
        for folder in folders:
            try:
                links |= {link for link in fs.ls(folder, detail=False) if _is_below(link, folder)}
            except FileNotFoundError:
                files.add(folder)  # a dead link: asking for its size will say so
        files |= {link for link in links if not link.endswith("/")}
        folders = sorted(link for link in links if link.endswith("/"))
    return sorted(files)


def _is_below(link: str, folder: str) -> bool:
    # Index pages also link to their parent, and to themselves in another order.
    parts = link.removeprefix(folder).removesuffix("/").split("/")
    return link.startswith(folder) and not {"", ".", ".."} & set(parts) and not {"?", "#"} & set(link)
