"""The board on the loopback address: the page, the rows that changed, a trial's curves, and nothing else.

It answers to its own names alone, so that no web page reaches it by another (DNS rebinding), and to reading alone.
"""

import json
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from analysis.board.page import page, policy
from analysis.board.rows import curves
from parrots.record import path_of
from sweeps.board import Board
from sweeps.guard import LOOPBACK

LOOK_EVERY_S = 1.0
PART = 2**16  # bytes of a reply that have to be taken within a connection's patience


class Server(ThreadingHTTPServer):
    """Serves a board, and reads its folder again every second while it is entered as a context."""

    daemon_threads = True

    def __init__(self, board: Board, port: int):
        super().__init__((LOOPBACK, port), Answer)
        self.board = board
        self.names = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}
        self.over = Event()

    def __enter__(self) -> "Server":
        Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed before its reply has come is no news; anything else is our bug, and told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def _look(self) -> None:
        while True:
            try:
                self.board.refresh()
                self.board.problem = ""
            except (OSError, ValueError) as error:  # a file that went while it was looked at, say; the next look is soon
                self.board.problem = str(error).partition("\n")[0]
            if self.over.wait(LOOK_EVERY_S):
                return


class Answer(BaseHTTPRequestHandler):
    """What one connection asks. One that is silent, or takes nothing of a reply, for half a minute is closed."""

    server: Server
    timeout = 30.0
    protocol_version = "HTTP/1.1"
    server_version = "parrots"
    sys_version = ""

    def do_GET(self) -> None:
        """What there is at a path, or why it cannot be read now."""
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            raise
        except (OSError, ValueError) as error:  # a manifest that is being written, a file that is no record
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", f"{str(error).partition(chr(10))[0]}\n")

    def _answer(self) -> None:
        asked = urlsplit(self.path)
        given = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        if self.headers.get("Host") not in self.server.names:
            self._say(HTTPStatus.FORBIDDEN, "text/plain", f"this is {' or '.join(sorted(self.server.names))}\n")
        elif asked.path == "/":
            self._say(HTTPStatus.OK, "text/html; charset=utf-8", page(self.server.board.about(live=True)))
        elif asked.path == "/rows" and re.fullmatch(r"\d{1,15}", given.get("after", "")):
            self._json(self.server.board.since(int(given["after"])))
        elif asked.path == "/curves" and re.fullmatch("[0-9a-f]{16}", given.get("trial", "")):
            path = path_of(given["trial"], self.server.board.results)
            self._json(curves(path) if path.exists() else {})
        else:
            self._say(HTTPStatus.NOT_FOUND, "text/plain", "nothing here\n")

    def _json(self, said: Any) -> None:
        self._say(HTTPStatus.OK, "application/json", json.dumps(said, separators=(",", ":"), allow_nan=False))

    def _say(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": f"{policy()}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for first in range(0, len(body), PART):
            self.wfile.write(body[first : first + PART])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name that http.server calls it by)
        """Nothing: a terminal is for what its user asked."""
