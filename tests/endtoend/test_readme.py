"""The example of the README gives the output that stands there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_notebook_example_prints_what_the_readme_shows(served: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```\s+```\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code.replace("http://127.0.0.1:8000", served), names)
        assert printed.getvalue() == expected
