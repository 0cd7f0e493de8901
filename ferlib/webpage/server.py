"""The server of the page: a free port, a folder of uploads that is removed, Gradio's environment."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ferlib.runtime.errors import UserError

if TYPE_CHECKING:
    import gradio as gr

PORTS = 50  # number of ports that are tried, from the first one on


@contextmanager
def serve_page(
    make_page: Callable[[], gr.Blocks], *, host: str, port: int, max_file_bytes: int, open_browser: bool = False
) -> Iterator[str]:
    """The address of the page while it is served; its folder of uploads is removed afterwards."""
    from ferlib.webpage.theme import make_theme
    from ferlib.webpage.views import TEMPLATES

    with tempfile.TemporaryDirectory(prefix="expressions-") as folder, environment(folder, host):
        page = make_page()
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=max_file_bytes,
            theme=make_theme(),
            css_paths=[TEMPLATES / "app.css"],
            share=False,
            inbrowser=open_browser,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
        try:
            yield address
        finally:
            page.close(verbose=False)


@contextmanager
def environment(folder: str, host: str) -> Iterator[None]:
    """Environment variables of Gradio: the folder of uploads, no telemetry, no proxy for this computer's addresses."""
    own = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
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
    with socket.socket() as probe:
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
