"""Where the page is served, and what Gradio is told of this computer."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ferlib.runtime.errors import UserError

PORTS = 50  # that are tried from the first one on


@contextmanager
def environment(folder: str, host: str) -> Iterator[None]:
    """Gradio told where uploads go, to report nothing to anyone, and to reach this computer without a proxy."""
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
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except socket.gaierror as error:
                raise UserError(f"--host {host} is not an address of this computer") from error
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise UserError(f"--host {host} --port {port} cannot be served on: {error.strerror}") from error
                continue
        if port != first:
            print(f"port {first} is in use; taking {port}")
        return port
    raise UserError(f"the ports {first} to {first + PORTS - 1} are in use; choose another with --port")
