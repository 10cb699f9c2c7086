"""Starts nginx on a folder, or in front of an http:// upstream.

Arguments: folder or URL, port, and how many files it may hold open, if any.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

url, port, *held = sys.argv[1:]
program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
if program is None:
    raise SystemExit("there is no nginx")
folder = tempfile.mkdtemp(prefix="nginx-")
what = f"root {url};"
if held:
    what += f" open_file_cache max={held[0]} inactive=30s; open_file_cache_valid 30s;"
if "://" in url:
    what = f"proxy_pass {url}; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_read_timeout 10s;"
text = Path(__file__).with_suffix(".conf").read_text()
# Started by root its workers would be another user, who may not read the folder.
user = "user root;" if os.geteuid() == 0 else ""
for word, value in {"FOLDER": folder, "PORT": port, "WHAT": what, "USER": user}.items():
    text = text.replace(f"@{word}@", value)
config = Path(folder, "nginx.conf")
config.write_text(text)
# It takes the place of this process, so that whoever started it stops nginx itself.
os.execv(program, [program, "-e", "stderr", "-p", folder, "-c", str(config)])
