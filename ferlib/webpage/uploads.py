"""The folder of uploads: written, found, bounded in number and bytes, and emptied of what is too old."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ferlib.webpage.refusals import Refusal

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")  # kept of an upload's name; others not
FILES, FILES_OF_CLIENT = 100, 40  # uploads that are kept, of all clients and of one address
VOLUME, VOLUME_OF_CLIENT = 20, 8  # their bytes, as multiples of the largest file
MISSING = "This picture is not on the page any more: pictures are deleted after some time. Upload it again."
FULL = "The picture cannot be kept: the disk of the computer that serves this page is full or cannot be written."


@dataclass
class Uploads:
    """The pictures below a folder, which Gradio writes its own to, too; the oldest make room for new ones."""

    folder: Path
    max_file_bytes: int
    keep_seconds: float
    kept: dict[Path, tuple[str, int]] = field(default_factory=dict)  # the oldest first: the client's address, bytes
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, content: bytes, name: str, client: str) -> Path:
        """Keeps an upload under a name that nobody can guess; Refusal for too large ones and for a full disk."""
        if len(content) > self.max_file_bytes:
            raise Refusal(413, self.too_large)
        suffix = Path(name.replace("\0", "")).suffix.lower()
        path = self.folder / secrets.token_hex(16) / f"photo{suffix if suffix in SUFFIXES else ''}"
        with self.lock:
            self.make_room(client, len(content))
            try:
                path.parent.mkdir()
                path.write_bytes(content)
            except OSError as error:
                shutil.rmtree(path.parent, ignore_errors=True)
                raise Refusal(507, FULL) from error
            self.kept[path] = client, len(content)
        return path

    @property
    def too_large(self) -> str:
        """The sentence on a file of too many bytes."""
        return f"The file is too large: more than {self.max_file_bytes / 2**20:g} MiB are refused."

    def make_room(self, client: str, size: int) -> None:
        """Deletes the oldest uploads of a client, then those of all, until one of `size` bytes keeps to the limits."""
        own = {path: row for path, row in self.kept.items() if row[0] == client}
        for rows, files, volume in ((own, FILES_OF_CLIENT, VOLUME_OF_CLIENT), (dict(self.kept), FILES, VOLUME)):
            rows = {path: row for path, row in rows.items() if path in self.kept}
            while rows and (
                len(rows) >= files or sum(row[1] for row in rows.values()) + size > volume * self.max_file_bytes
            ):
                oldest = next(iter(rows))
                del rows[oldest]
                self.remove(oldest)

    def remove(self, path: Path) -> None:
        """Deletes a file and the folder that held it alone."""
        self.kept.pop(path, None)
        path.unlink(missing_ok=True)
        if path.parent != self.folder and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def expire(self) -> None:
        """Deletes what is older than `keep_seconds`, Gradio's own files included."""
        limit = time.time() - self.keep_seconds
        with self.lock:
            for path in list(self.files()):
                with contextlib.suppress(OSError):  # written or deleted by Gradio at the same time
                    if path.lstat().st_mtime < limit:
                        self.remove(path)

    def files(self) -> Iterator[Path]:
        """All files below the folder."""
        return (path for path in self.folder.rglob("*") if not path.is_dir())

    def find(self, path: object) -> Path | None:
        """The regular file below the folder that `path` names, links resolved; None for everything else."""
        if not isinstance(path, str) or len(path) > 4096 or not path.isprintable():
            return None
        try:
            real = Path(os.path.realpath(path))
            inside = real.is_relative_to(os.path.realpath(self.folder))
            return real if inside and stat.S_ISREG(real.lstat().st_mode) else None
        except OSError:
            return None

    async def receive(self, request: Request) -> Response:
        """The route of uploads: one file of a form → the path by which the page's events name it."""
        try:
            content, name = await read_form(request)
            client = request.client.host if request.client else ""
            return JSONResponse([str(await run_in_threadpool(self.add, content, name, client))])
        except Refusal as refusal:
            return refusal.answer()


async def read_form(request: Request) -> tuple[bytes, str]:
    """The only file of a form and its name; Refusal for other forms."""
    try:
        async with request.form(max_files=1, max_fields=0) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if len(files) == 1:
                return await files[0].read(), files[0].filename or ""
    except (MultiPartException, HTTPException, FormParserError) as error:
        raise Refusal(400, "This upload cannot be read; it must be a form with one file.") from error
    except OSError as error:  # of the temporary file of a form
        raise Refusal(507, FULL) from error
    raise Refusal(400, "One picture is uploaded at a time.")


async def report_progress(_request: Request) -> Response:
    """The route of an upload's progress: an upload is passed on when it is complete."""
    return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
