"""A local S3 server that spoils answers as networks and services do.

moto's application answers in this process, without a second connection: tests make thousands of requests.
"""

from __future__ import annotations

import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.test import run_wsgi_app

__all__ = ["FAULTS", "Fault", "Proxy"]

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
#: Ways to spoil an answer.
FAULTS = ("slow", "503", "reset", "cut")


@dataclass
class Fault:
    """Spoil the answers to requests that match ``which`` ("GET /bucket/key"), ``times`` times."""

    kind: str
    """``slow``, ``503``, ``403``, ``reset`` (RST in the middle of the body), ``cut`` (closed there, too early),
    ``short`` (half the body, declared as all of it), ``lost`` (carried out, but never answered)."""
    which: str = "."
    times: float = float("inf")
    share: float = 1.0
    """Of matching requests, by a seeded generator; below 1 never the same one twice in a row, for clients may be set to
    try just twice."""
    done: list[str] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Ignores clients that disconnect in the middle, which these tests cause."""


class Proxy:
    """An S3 server; :meth:`spoiled` says which answers arrive spoiled."""

    def __init__(self, seed: int = 0) -> None:
        self._app = create_backend_app("s3")
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._spoiled: set[str] = set()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else a body waits 40 ms for the receipt of its headers

            def answer(self) -> None:
                proxy.answer(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """The value for ``endpoint_url``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def spoiled(self, *faults: Fault) -> Iterator[None]:
        """Spoil answers while the block runs."""
        self.faults = list(faults)
        self.requests.clear()
        self._spoiled.clear()
        try:
            yield
        finally:
            self.faults = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request, spoiled or not."""
        line = f"{handler.command} {handler.path}"
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        kind = self._draw(line)
        if kind in ("503", "403"):
            status, content = (503, _SLOW_DOWN) if kind == "503" else (403, _DENIED)
            _send(handler, status, {"Content-Type": "application/xml"}, content)
            return
        status, answered, content = self._carry_out(handler, body)
        headers = {name: value for name, value in answered.items() if name.lower() not in _OWN}
        if kind == "slow":
            time.sleep(0.05)
        if kind == "short":
            content = content[: len(content) // 2]
        if kind == "lost" or (kind in ("reset", "cut") and not content):
            _hang_up(handler, reset=True)
        elif kind in ("reset", "cut"):
            _send(handler, status, headers, content, sent=len(content) // 2)
            _hang_up(handler, reset=kind == "reset")
        else:
            _send(handler, status, headers, content, length=answered.get("Content-Length"))

    def _draw(self, line: str) -> str | None:
        with self._lock:
            self.requests.append(line)
            for fault in self.faults:
                if (
                    re.search(fault.which, line)
                    and len(fault.done) < fault.times
                    and not (fault.share < 1 and line in self._spoiled)
                    and self._random.random() < fault.share
                ):
                    fault.done.append(line)
                    self._spoiled.add(line)
                    return fault.kind
            self._spoiled.discard(line)
        return None

    def _carry_out(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content with which the S3 server answers."""
        path, _, query = handler.path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": handler.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path).encode().decode("latin1"),
            "QUERY_STRING": query,
            "REQUEST_URI": handler.path,
            "RAW_URI": handler.path,
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self._server.server_port),
            "SERVER_PROTOCOL": handler.request_version,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in handler.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        content, status, headers = run_wsgi_app(self._app, environ, buffered=True)
        return int(status.partition(" ")[0]), dict(headers), b"".join(content)


_OWN = {"content-length", "transfer-encoding", "connection", "server", "date"}


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    content: bytes,
    *,
    sent: int | None = None,
    length: str | None = None,
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    head = handler.command == "HEAD"
    # the answer to HEAD states the length of a body that is not sent
    handler.send_header("Content-Length", length if head and length else str(len(content)))
    handler.end_headers()
    if not head:  # its client would take a body for the beginning of the next answer
        handler.wfile.write(content[:sent])
    handler.wfile.flush()


def _hang_up(handler: BaseHTTPRequestHandler, *, reset: bool) -> None:
    handler.close_connection = True
    if reset:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
