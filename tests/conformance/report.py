"""What came of the probes, as a table for people and as JSON for scripts."""

from __future__ import annotations

import json
from collections import Counter

from probes import MUST, Outcome

MARKS = {"pass": "ok", "fail": "FAIL", "skip": "skip"}


def table(outcomes: list[Outcome]) -> str:
    """Return one line a probe, with the reason beneath where it did not pass."""
    lines = []
    for probe, verdict, reason in outcomes:
        lines.append(f"{MARKS[verdict]:5} {probe.level:6} {probe.id:20} {probe.sentence}")
        if reason:
            lines.append(f"{'':13}{'':20} -> {reason}")
    return "\n".join([*lines, "", summary(outcomes)])


def summary(outcomes: list[Outcome]) -> str:
    """Return how many passed, by level."""
    counts = Counter((probe.level, verdict) for probe, verdict, _ in outcomes)
    parts = []
    for level in ("MUST", "SHOULD"):
        made = counts[level, "pass"] + counts[level, "fail"]
        parts.append(f"{level}: {counts[level, 'pass']} of {made}")
    skipped = sum(verdict == "skip" for _, verdict, _ in outcomes)
    return f"{', '.join(parts)}, {skipped} skipped"


def as_json(url: str, outcomes: list[Outcome]) -> str:
    """Return everything as one JSON document."""
    rows = [
        {"id": p.id, "level": p.level, "group": p.group, "sentence": p.sentence, "verdict": verdict, "reason": reason}
        for p, verdict, reason in outcomes
    ]
    return json.dumps({"url": url, "summary": summary(outcomes), "probes": rows}, indent=2)


def status(outcomes: list[Outcome]) -> int:
    """Return the exit status: 1 if a MUST failed, else 0."""
    return int(any(probe.level == MUST and verdict == "fail" for probe, verdict, _ in outcomes))
