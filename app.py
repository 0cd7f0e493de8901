"""A web page for photos and the webcam, on this computer only: python app.py, then open http://127.0.0.1:7860"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from config import App, EngineFlags
from ferlib.faces.model_files import find_checkpoint
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.interrupts import on_end
from ferlib.webpage.server import find_port, serve_page

LOCAL = ("127.0.0.1", "localhost", "::1")


@contextmanager
def running(flags: App) -> Iterator[str]:
    """The address of the page while it is served; UserError where a model or a detector cannot be opened."""
    check(flags)
    port = find_port(flags.host, flags.port)
    from ferlib.webpage.models import find_models
    from ferlib.webpage.resources import Resources

    models = find_models(flags.checkpoint, flags.outputs_dir)
    engine = EngineFlags(engine=flags.engine, precision=flags.precision, max_flips=flags.max_flips)
    resources = Resources(models, flags.device, flags.detector, flags.detector_weights, flags.max_pixels, engine)
    resources.open_detector(flags.detector)  # missing weights are an error now, not beside a photo
    resources.open_model(resources.first_model)
    from ferlib.webpage.page import make_page

    with serve_page(
        partial(make_page, resources),
        host=flags.host,
        port=port,
        max_file_bytes=round(flags.max_upload_mb * 2**20),
        keep_seconds=flags.keep_seconds,
        open_browser=flags.open,
    ) as address:
        yield address


def check(flags: App) -> None:
    """UserError for flags that make no sense, before a library is loaded that takes seconds."""
    if min(flags.max_upload_mb, flags.max_pixels, flags.keep_seconds) <= 0:
        raise UserError("--max-upload-mb, --max-pixels and --keep-seconds must be above 0")
    if flags.checkpoint:
        find_checkpoint(checkpoint=flags.checkpoint)


def serve(flags: App) -> None:
    """Serves the page until ctrl-C or the end of the process."""
    on_end(lambda *_: sys.exit(0))  # so that the folder of uploads is removed then, too
    with running(flags) as address:
        print(f"open {address} in a browser; ctrl-C ends it")
        if flags.host not in LOCAL:
            print("every computer that reaches this one over the network can use the page; browsers block its camera")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    print("\nended; no photo was kept")


def main() -> None:
    serve(parse_flags(App))


if __name__ == "__main__":
    run_script(main)
