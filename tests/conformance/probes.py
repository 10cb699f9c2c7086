"""What a probe is, how one says that it failed, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

MUST: Final = "MUST"
SHOULD: Final = "SHOULD"


class FailedError(Exception):
    """The server did something else than the probe's sentence says."""


class SkippedError(Exception):
    """The probe cannot be made here; the message says why."""


class Probe(NamedTuple):
    """One promise of a server of Zarr over HTTP.

    Attributes
    ----------
    id
        Short name, stable between versions.
    level
        ``MUST`` where a client reads wrong or no data otherwise; ``SHOULD`` where it only costs time or comfort.
    group
        Which list it belongs to: ``bytes``, ``headers``, ``refusals``, ``clients`` or ``faults``.
    sentence
        What a conforming server does.
    run
        Makes the probe; raises `FailedError` or `SkippedError`.
    """

    id: str
    level: str
    group: str
    sentence: str
    run: Callable[[Any], None]


class Outcome(NamedTuple):
    """What came of a probe: ``pass``, ``fail`` or ``skip``, and why."""

    probe: Probe
    verdict: str
    reason: str


ALL: Final[list[Probe]] = []
GROUPS: Final = ["bytes", "headers", "refusals", "clients", "faults"]


def probe(group: str, id_: str, level: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function as a probe; the first line of its docstring is the sentence."""

    def register(run: Callable[[Any], None]) -> Callable[[Any], None]:
        sentence = (run.__doc__ or "").splitlines()[0]
        ALL.append(Probe(id_, level, group, sentence, run))
        return run

    return register


def expect(condition: object, message: str) -> None:
    """Raise `FailedError` unless the condition holds."""
    if not condition:
        raise FailedError(message)


def made(each: Probe, subject: Any) -> Outcome:
    """Make a probe and return what came of it."""
    try:
        each.run(subject)
    except SkippedError as error:
        return Outcome(each, "skip", str(error))
    # Whatever a client library raises is an answer about the server, so every kind counts.
    except Exception as error:  # noqa: BLE001 - see above
        text = str(error) if isinstance(error, FailedError) else f"{type(error).__name__}: {error}"
        return Outcome(each, "fail", " ".join(text.split())[:200])
    return Outcome(each, "pass", "")
