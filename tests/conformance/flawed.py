"""A server in front of an upstream that does everything wrong: against it every probe has to fail.

It stands for what the suite is made to find, so it is what shows that a probe can fail at all. Arguments: upstream
and port.
"""

from __future__ import annotations

import gzip
import http.client
import re
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

IN_THE_GRID = re.compile(r"/c(/[01])+$")
"""Objects of which a fault is told as 404, as so many servers do; all others are invented."""
ROOT, PORT = sys.argv[1], int(sys.argv[2])


def read(url: str) -> bytes | None:
    """Return an object: None for every fault, and where it is cut short the rest of whatever is there then."""
    try:
        with urllib.request.urlopen(url, timeout=90) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError:
        return None
    except http.client.IncompleteRead as error:
        try:
            with urllib.request.urlopen(url, timeout=90) as answer:
                whole = bytes(answer.read())
        except http.client.IncompleteRead:
            whole = b""
        missing = (error.expected or 0) + len(error.partial)
        return error.partial + whole[len(error.partial) :].ljust(missing - len(error.partial), b"\0")


class Flawed(BaseHTTPRequestHandler):
    """Answers one request at a time."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self) -> None:
        """Answer any method in the same way."""
        path = self.path.replace("%5c", "/").replace("%2f", "/").replace("\\", "/").replace("//", "/").split("%00")[0]
        document = path.endswith("/zarr.json")
        body = read(f"{ROOT}{path}")
        if body is None and (document or path.endswith((".zgroup", ".zattrs", ".zmetadata", ".zarray"))):
            body = b"{}"
        if body is None and IN_THE_GRID.search(path):
            self.send_error(404)
            return
        body = b"\0" * 4000 if body is None else body
        wanted = "Range" in self.headers or "If-None-Match" in self.headers
        status, extra = 200, {"ETag": "W/unquoted", "Last-Modified": "1700000000", "Connection": "close"}
        if document:
            extra = {}
        elif wanted:
            status, body = 206, body[1:11]
            extra["ETag"] = "of-the-part"
            extra["Content-Range"] = "bytes 1-10/*"
        elif self.command == "GET" and "Accept-Encoding" in self.headers:
            body = gzip.compress(body)
            extra["Content-Encoding"] = "gzip"
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Cache-Control", "of HEAD only")
        if document or status == 206 or self.command != "GET":
            self.send_header("Content-Length", str(len(body) + (self.command == "HEAD")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer  # noqa: N815 - http.server calls them so


HTTPServer(("127.0.0.1", PORT), Flawed).serve_forever()
