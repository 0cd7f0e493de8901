"""uvicorn's server in a thread: connections that send no request are closed, and faults are one line of the log."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ferlib.runtime.errors import UserError
from ferlib.runtime.terminal import printable

HEADER_SECONDS = 15.0  # within which the head of a request must be complete
CONNECTIONS = 256  # at once
START_SECONDS = 30.0


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose connections are closed where no complete head of a request comes within HEADER_SECONDS."""

    head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Waits for the first request."""
        super().connection_made(transport)
        self.await_head()

    def data_received(self, data: bytes) -> None:
        """Waits on while the head of a request is not complete."""
        super().data_received(data)
        self.await_head()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        super().on_response_complete()
        self.await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer."""
        super().connection_lost(exc)
        self.stop_waiting()

    def await_head(self) -> None:
        """Starts or stops the timer, by whether a request is being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.stop_waiting()
        elif self.head_timer is None:
            self.head_timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def stop_waiting(self) -> None:
        """Stops the timer."""
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None


def shorten(record: logging.LogRecord) -> bool:
    """A filter that turns the traceback of a request into one line."""
    if record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        record.msg, record.args = printable(f"a request failed: {type(error).__name__}: {error}"[:300]), ()
        record.exc_info = record.exc_text = None
        if isinstance(error, h11.LocalProtocolError):  # a refusal of a connection that ended already
            return False
    return "graceful shutdown" not in str(record.msg)


class Serving:
    """A server of an ASGI application in a thread."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=PatientProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=1,
        )
        logging.getLogger("uvicorn.error").addFilter(shorten)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every broken form
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True, name="server")
        self.thread.start()
        end = time.monotonic() + START_SECONDS
        while not self.server.started:
            if not self.thread.is_alive() or time.monotonic() > end:
                raise UserError(f"the page cannot be served on {host}, port {port}; choose another with --port")
            time.sleep(0.01)

    def close(self) -> None:
        """Ends the server."""
        self.server.should_exit = True
        self.thread.join(timeout=5)
