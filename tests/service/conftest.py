from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest


@pytest.fixture
def client(served: str) -> Iterator[httpx.Client]:
    """Speaks to a service that runs as a process of its own."""
    with httpx.Client(base_url=served) as http:
        yield http
