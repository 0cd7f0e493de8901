"""The server of the page: a free port, a folder of uploads that is removed, Gradio's environment."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ferlib.runtime.errors import UserError

if TYPE_CHECKING:
    import gradio as gr
    from starlette.applications import Starlette

    from ferlib.webpage.guard import Guard
    from ferlib.webpage.results import Results
    from ferlib.webpage.sessions import Sessions
    from ferlib.webpage.uploads import Uploads

PORTS = 50  # number of ports that are tried, from the first one on
EMPTIED = 20  # seconds between two searches for uploads and results that are too old
EVERY_ADDRESS = ("0.0.0.0", "::")  # hosts that stand for all addresses of a computer


@contextmanager
def serve_page(
    make_page: Callable[[Results, Uploads], gr.Blocks],
    *,
    host: str,
    port: int,
    max_file_bytes: int,
    keep_seconds: float,
    open_browser: bool = False,
) -> Iterator[str]:
    """The address of the page while it is served; its folder of uploads is removed afterwards."""
    from ferlib.webpage.connections import Serving
    from ferlib.webpage.results import Results
    from ferlib.webpage.uploads import Uploads

    with tempfile.TemporaryDirectory(prefix="expressions-") as folder, environment(folder, host):
        results, uploads = Results(keep_seconds), Uploads(Path(folder), max_file_bytes, keep_seconds)
        page = make_page(results, uploads)
        app = make_app(page, results, uploads, host, port)
        page.server = Serving(app, host, port)
        address = f"http://{shown_host(host)}:{port}/"
        if open_browser:
            webbrowser.open(address)
        try:
            yield address
        finally:
            page.close(verbose=False)


def make_app(page: gr.Blocks, results: Results, uploads: Uploads, host: str, port: int) -> Guard:
    """The ASGI application: Gradio's behind the guard, with routes of its own for uploads."""
    import gradio as gr
    from starlette.applications import Starlette
    from starlette.routing import Route

    from ferlib.webpage.guard import Guard, own_names
    from ferlib.webpage.sessions import QUEUED, SESSIONS, Sessions
    from ferlib.webpage.theme import make_theme
    from ferlib.webpage.uploads import report_progress
    from ferlib.webpage.views import TEMPLATES

    sessions = Sessions(page, uploads.keep_seconds)
    page.queue(max_size=QUEUED)
    page.state_session_capacity = SESSIONS

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(expire_often(uploads, results, sessions))
        try:
            yield
        finally:
            task.cancel()

    routes = [
        Route("/gradio_api/upload", uploads.receive, methods=["POST"]),
        Route("/gradio_api/upload_progress", report_progress),
    ]
    app = gr.mount_gradio_app(
        Starlette(routes=routes, lifespan=lifespan),
        page,
        path="/",
        server_name=host,
        server_port=port,
        show_error=False,
        theme=make_theme(),
        css_paths=[TEMPLATES / "app.css"],
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
    )
    page.app = app.routes[-1].app  # as Gradio's launch() sets them
    page.has_launched = True
    return Guard(app, page, uploads, sessions, own_names(host))


async def expire_often(*stores: Uploads | Results | Sessions) -> None:
    """Has uploads, results and sessions forget what is too old, every EMPTIED seconds."""
    while True:
        await asyncio.sleep(EMPTIED)
        for store in stores:
            store.expire()


def shown_host(host: str) -> str:
    """The host in the page's address."""
    return "localhost" if host in EVERY_ADDRESS else f"[{host}]" if ":" in host else host


@contextmanager
def environment(folder: str, host: str) -> Iterator[None]:
    """Environment variables of Gradio: the folder of uploads, no telemetry, no proxy for this computer's addresses."""
    own = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    own |= {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ALLOWED_PATHS": ""}
    for name in ("NO_PROXY", "no_proxy"):
        own[name] = ",".join(filter(None, (os.environ.get(name), host, "localhost", "127.0.0.1")))
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def find_port(host: str, first: int) -> int:
    """The first free port from `first` on; UserError if there is none, or if the host is not this computer's."""
    if not 0 < first < 65536:
        raise UserError(f"--port {first} does not exist; take one from 1024 to 65535")
    for port in range(first, min(first + PORTS, 65536)):
        if is_free(host, port):
            if port != first:
                print(f"port {first} is in use; taking {port}")
            return port
    raise UserError(f"the ports {first} to {first + PORTS - 1} are in use; choose another with --port")


def is_free(host: str, port: int) -> bool:
    """Whether a port of this computer can be served on; UserError for other reasons than its use."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise UserError(f"--host {host} is not an address of this computer") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"--host {host} --port {port} cannot be served on: {error.strerror}") from error
            return False
    return True
