"""Loopback: a page on this machine only, for whoever has its address.

Here    Three locks, since any page in the browser can send requests to loopback, and any user of
        the machine can: the socket is bound to 127.0.0.1, the address begins with a random word,
        and the Host header must be our own, or else another site's name could be made to point
        here (DNS rebinding). No path is ever built from a request: what can be asked is a fixed
        list and a few numbers.
"""

import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from .series import InputError

LOOPBACK = "127.0.0.1"
IDLE_SECONDS = 60.0  # then a kept connection is closed; browsers open another
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; "  # pictures that a page carries or makes itself
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HTML, CSS, JS, TEXT = (
    f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript", "plain")
)
JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    kind: str
    body: bytes
    status: HTTPStatus = HTTPStatus.OK


def refusal(status: HTTPStatus, sentence: str) -> Answer:
    return Answer(TEXT, f"{sentence}\n".encode(errors="backslashreplace"), status)


NO_ACCESS = refusal(HTTPStatus.FORBIDDEN, "Open the whole address that quell printed.")
NOT_HERE = refusal(HTTPStatus.NOT_FOUND, "There is nothing at this address.")
ONLY_GET = refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.")


class Server(ThreadingHTTPServer):
    """Serves one page until it is closed; `address` is the only way in.

    answer  to what follows the token in the address, taken as it is: nothing is decoded
    port    0 is any free one

    Raises InputError if the port cannot be had.
    """

    daemon_threads = True  # a slow browser does not hold up the end

    def __init__(self, answer: Callable[[str], Answer], port: int = 0) -> None:
        self.answer = answer
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            raise InputError(
                f"port {port} cannot be used ({error.strerror}); "
                "give another as --port, or none to have one chosen"
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind, without the look-up of this machine's name that http.server does on the way."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; anything else is said in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"quell: a request failed ({type(error).__name__}: {error})", file=sys.stderr)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"  # one connection for the many small requests of a slider
    timeout = IDLE_SECONDS
    server_version, sys_version = "quell", ""

    def do_GET(self) -> None:
        self._send(self._answer())

    do_HEAD = do_GET  # noqa: N815

    def _refuse_method(self) -> None:
        self.close_connection = True  # its body has not been read
        self._send(ONLY_GET if self._has_access() else NO_ACCESS)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method  # noqa: N815

    def _has_access(self) -> bool:
        """Whether the request names this host and begins with the token."""
        token = self.path.split("/")[1] if self.path.startswith("/") else ""
        is_ours = secrets.compare_digest(token.encode(errors="replace"), self.server.token.encode())
        hosts = self.headers.get_all("Host", [])
        return is_ours and len(hosts) == 1 and hosts[0] in self.server.hosts

    def _answer(self) -> Answer:
        if not self._has_access():
            return NO_ACCESS
        try:
            return self.server.answer(self.path[len(self.server.token) + 2 :])
        except (InputError, OSError, ValueError, MemoryError) as error:  # such as a file now gone
            sentence = f"The file could not be read ({type(error).__name__}: {error})."
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """http.server's own refusals, of what is no proper request, in the same form as ours."""
        self.close_connection = True
        self._send(refusal(HTTPStatus(code), HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token would stand in every line."""


def open_browser(address: str) -> None:
    """Open the address in the person's browser, without waiting for it.

    A browser in the terminal would hold up the server that it waits for.
    """
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
