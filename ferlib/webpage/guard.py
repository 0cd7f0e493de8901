"""What stands before Gradio: which hosts, origins and routes are served, and how much and how long a request may be."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders

from ferlib.webpage.events import SESSION, UNREADABLE, check_event
from ferlib.webpage.refusals import Refusal
from ferlib.webpage.server import EVERY_ADDRESS
from ferlib.webpage.sessions import Sessions
from ferlib.webpage.uploads import MISSING, Uploads

Scope = dict[str, Any]
LOCAL = ("localhost", "127.0.0.1", "::1")
HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{1,5})?", re.I | re.ASCII)

ROUTES = {  # name → methods, path; all else of Gradio is not served: other APIs, proxies, component servers, streams
    "page": (("GET", "HEAD"), r"/"),
    "assets": (
        ("GET", "HEAD"),
        r"/(?:assets|static|svelte)/(?!.*(?:\.\.|//))[\w.@+-][\w./@+-]*|/theme\.css|/favicon\.ico",
    ),
    "manifest": (("GET", "HEAD"), r"/manifest\.json|/robots\.txt|/gradio_api/app_id"),
    "heartbeat": (("GET",), r"/gradio_api/heartbeat/[\w-]{1,64}"),
    "upload": (("POST",), r"/gradio_api/upload"),
    "progress": (("GET",), r"/gradio_api/upload_progress"),
    "picture": (("GET", "HEAD"), r"/gradio_api/file=(?P<path>.+)"),
    "event": (("POST",), r"/gradio_api/queue/join"),
    "messages": (("GET",), r"/gradio_api/queue/data"),
}
STREAMS = ("heartbeat", "messages")  # routes whose answers stay open
FORWARDED = (b"x-forwarded-", b"x-gradio-", b"forwarded")  # headers that would change what Gradio calls its address

OF_BODY = (b"content-length", b"transfer-encoding")

EVENT_BYTES = 64 * 2**10  # of the JSON of an event; the page sends about one
FORM_BYTES = 16 * 2**10  # of an upload's form beside its file
BODY_SECONDS = 60.0  # within which a request must be complete
ANSWER_SECONDS = 60.0  # within which an answer must be; not of STREAMS
UPLOADS_AT_ONCE, UPLOADS_AT_ONCE_OF_CLIENT = 8, 3
STREAMS_AT_ONCE, STREAMS_AT_ONCE_OF_CLIENT = 200, 60

POLICY = {  # Gradio's page needs scripts and styles in its own text, and functions made of text
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in POLICY.items()),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


# ── hosts and origins ────────────────────────────────────────────────────────────────────────────────────────────────


def own_names(host: str) -> frozenset[str]:
    """The names by which a page served on `host` may be asked for, beside IP addresses where it is served on all."""
    names = {*LOCAL, host}
    if host in EVERY_ADDRESS:
        names |= {socket.gethostname(), f"{socket.gethostname()}.local", socket.getfqdn()}
    return frozenset(name.lower() for name in names)


def check_host(headers: Headers, names: frozenset[str]) -> None:
    """Refusal for a name that is not this computer's: a foreign page may resolve its own name to this address."""
    match = HOST.fullmatch(headers.get("host", ""))
    name = (match["six"] or match["name"]).lower() if match else ""
    if name in names or (names.intersection(EVERY_ADDRESS) and is_address(name)):
        return
    raise Refusal(421, "This page is not served under this name; open it by the address that the terminal shows.")


def is_address(name: str) -> bool:
    """Whether a host is an IP address: no name that somebody could resolve to another one."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(headers: Headers, route: str) -> None:
    """Refusal for requests of other pages; links to the page itself and programs that are no browsers are served."""
    own, origin = f"http://{headers.get('host', '')}".lower(), headers.get("origin")
    site, referer = headers.get("sec-fetch-site", "same-origin"), headers.get("referer")
    linked = route == "page" and headers.get("sec-fetch-mode", "navigate") == "navigate"
    foreign = site not in ("same-origin", "none") or (referer is not None and origin_of(referer) != own)
    if (origin is not None and origin.lower() != own) or (foreign and not linked):
        raise Refusal(403, "Requests of other pages are refused.")


def origin_of(address: str) -> str:
    """Scheme, host and port of an address; empty for none."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()


def find_route(scope: Scope) -> tuple[str, re.Match[str]]:
    """Name of the route of ROUTES and the match of its path; Refusal for others."""
    for name, (methods, pattern) in ROUTES.items():
        if match := re.fullmatch(pattern, scope["path"], re.ASCII if name != "picture" else 0):
            if scope["method"] not in methods:
                raise Refusal(405, "This is not served.")
            return name, match
    raise Refusal(404, "This is not served.")


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def read_body(receive: Any, limit: int, sentence: str) -> bytes:
    """The whole body; Refusal where it is longer than `limit` or does not come in time.

    What is too long is read to its end and dropped: browsers show no answer that comes before.
    """
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, UNREADABLE)
                chunk = message.get("body", b"")
                size += len(chunk)
                if size <= limit:
                    body += chunk
                else:
                    body.clear()
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise Refusal(408, f"The request was not complete within {BODY_SECONDS:g} seconds.") from error
    if size > limit:
        raise Refusal(413, sentence)
    return bytes(body)


def replay(body: bytes, receive: Any) -> Any:
    """A `receive` that gives a body and then what comes after it."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_body() -> dict[str, Any]:
        return next(messages, None) or await receive()

    return receive_body


# ── the middleware ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Guard:
    """An ASGI application that passes on to `app` what the page itself may ask for, and refuses the rest in words."""

    app: Any
    page: gr.Blocks
    uploads: Uploads
    sessions: Sessions
    names: frozenset[str]
    open: dict[str, Counter[str]] = field(default_factory=lambda: {"upload": Counter(), "stream": Counter()})

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serves a request, or refuses it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self.serve(scope, receive, with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def serve(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serves an HTTP request; a Refusal becomes its answer."""
        try:
            headers, (route, match) = Headers(scope=scope), find_route(scope)
            check_host(headers, self.names)
            check_origin(headers, route)
            query = self.check_query(scope, route, match)
            own = [(name, value) for name, value in scope["headers"] if not name.startswith(FORWARDED)]
            scope = {**scope, "query_string": query, "headers": own}
            client = scope["client"][0] if scope["client"] else ""
            async with self.limited(route, client, query):
                await self.answer(route, scope, receive, send)
        except Refusal as refusal:
            await refusal.answer(as_json=scope["path"].endswith("/queue/join"))(scope, receive, send)

    def check_query(self, scope: Scope, route: str, match: re.Match[str]) -> bytes:
        """What of the query is passed on; Refusal for messages of an unknown session and for paths of no picture."""
        if route == "picture" and self.uploads.find(match["path"]) is None:
            raise Refusal(404, MISSING)
        if route != "messages":
            return b""
        (session,) = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[:1]
        if not SESSION.fullmatch(session) or not self.sessions.is_known(session):
            raise Refusal(404, "There is no such session; load the page again.")
        return urlencode({"session_hash": session}).encode()

    async def answer(self, route: str, scope: Scope, receive: Any, send: Any) -> None:
        """Reads the body, if the route has one, and passes the request on."""
        if route == "event":
            if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise Refusal(415, UNREADABLE)
            body = await read_body(receive, EVENT_BYTES, UNREADABLE)
            session, body = check_event(body, self.page, self.uploads)
            self.sessions.admit(session)
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in OF_BODY]
            receive = replay(body, receive)
        elif route == "upload":
            limit = self.uploads.max_file_bytes + FORM_BYTES
            receive = replay(await read_body(receive, limit, self.uploads.too_large), receive)
        if route in STREAMS:
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.app(scope, receive, send)
        except TimeoutError as error:
            raise Refusal(503, f"There was no answer within {ANSWER_SECONDS:g} seconds.") from error

    @asynccontextmanager
    async def limited(self, route: str, client: str, query: bytes) -> AsyncIterator[None]:
        """Counts uploads and streams while they last; Refusal where there are too many."""
        if route == "upload":
            with self.counted("upload", client, UPLOADS_AT_ONCE, UPLOADS_AT_ONCE_OF_CLIENT):
                yield
        elif route in STREAMS:
            session = parse_qs(query.decode()).get("session_hash", [""])[0]
            with self.counted("stream", client, STREAMS_AT_ONCE, STREAMS_AT_ONCE_OF_CLIENT):
                self.sessions.streams[session] += 1
                try:
                    yield
                finally:
                    self.sessions.streams[session] -= 1
        else:
            yield

    @contextmanager
    def counted(self, kind: str, client: str, limit: int, limit_of_client: int) -> Iterator[None]:
        """Counts a request of a client during the block."""
        table = self.open[kind]
        if table.total() >= limit or table[client] >= limit_of_client:
            raise Refusal(429, "Too many requests at once; wait for a moment.")
        table[client] += 1
        try:
            yield
        finally:
            table[client] -= 1
            table += Counter()  # drops clients without requests


def with_headers(send: Any) -> Any:
    """A `send` that adds HEADERS to an answer and drops what would share it with other origins."""

    async def send_with_headers(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]
            headers.update(HEADERS)
        await send(message)

    return send_with_headers
