"""`voxshelf publish` in a process that gets a SIGKILL at a given write: started by test_publish_kills.py.

Everything is loaded before the orders come, so that the next process gets ready while one is at work. It is not forked
from one that has loaded them: pyarrow starts threads, and a child of a process with threads may hang for ever.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute  # loaded here, and not when the orders have come
import s3fs  # noqa: F401  # as above

import voxshelf.verbs.publish  # noqa: F401  # as above
from corpus.stores import Store
from voxshelf.cli import cli


def doom(write: int, moment: str, log: str) -> None:
    """Have this process killed before or after its nth write; keys go into a log before anything happens to them."""
    file, left = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), write

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(store: Store, keys: str | Iterable[str], *others: Any) -> Any:
            nonlocal left
            left -= 1
            keys = keys if isinstance(keys, str) else list(keys)
            os.write(file, "".join(f"{key}\n" for key in ([keys] if isinstance(keys, str) else keys)).encode())
            if left <= 0 and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            done = call(store, keys, *others)
            if left <= 0 and moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return wrapped

    for name in ("put", "copy", "delete", "delete_keys"):
        setattr(Store, name, dying(getattr(Store, name)))
    # It waits for all disks of the machine, which no SIGKILL needs.
    Store.flush = lambda _: None  # type: ignore[method-assign]


pa.array([""])  # loads pandas, where it is installed
sys.stdout.write("ready\n")
sys.stdout.flush()
if orders := sys.stdin.readline():
    arguments, *fate = json.loads(orders)
    doom(*fate)
    faulthandler.dump_traceback_later(20)  # where it hangs, if it does
    cli.main(["publish", *arguments])
