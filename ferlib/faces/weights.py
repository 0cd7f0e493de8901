"""Weights of a face detector: the file given, the user's cache, or a download whose checksum is verified."""

from __future__ import annotations

import contextlib
import hashlib
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path
from ferlib.runtime.runs import user_cache

TIMEOUT = 20  # seconds without a response
PATIENCE = 24 * 3600  # seconds after a failed download until "auto" tries again
MAX_BYTES = 2**25  # that are read of a response; detectors are smaller


@dataclass(frozen=True)
class Weights:
    """A published file of weights."""

    file: str
    sha256: str
    urls: tuple[str, ...] = ()  # tried in this order; empty where no server offers the file alone
    source: str = ""  # page to download it from by hand

    @property
    def cached(self) -> Path:
        """Its path in the user's cache."""
        return user_cache() / self.file

    @property
    def failed(self) -> Path:
        """An empty file whose time is that of the last failed download."""
        return self.cached.with_suffix(".failed")


def find_weights(given: Path | None, weights: Weights) -> Path:
    """`given`, or the cached file, or the downloaded one; UserError where there is none of them."""
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"--detector-weights {given} does not exist or is not a file")
        return Path(given)
    if not weights.cached.exists():
        download(weights)
    return weights.cached


def failed_lately(weights: Weights) -> bool:
    """Whether a download has failed within PATIENCE, and the file is still missing."""
    with contextlib.suppress(OSError):
        return not weights.cached.exists() and 0 <= time.time() - weights.failed.stat().st_mtime < PATIENCE
    return False


def remember_failure(weights: Weights) -> None:
    """Notes the time of a failed download, where the cache can be written."""
    with contextlib.suppress(OSError):
        weights.failed.parent.mkdir(parents=True, exist_ok=True)
        weights.failed.touch()


def download(weights: Weights) -> None:
    """Writes the file into the cache; UserError, and no file, without a response that has the right checksum."""
    reasons = []
    for url in weights.urls:
        try:
            content = fetch(url)
        except (urllib.error.URLError, OSError) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', error)}")
            continue
        found = hashlib.sha256(content).hexdigest()
        if found == weights.sha256:
            with atomic_path(weights.cached) as temporary:
                temporary.write_bytes(content)
            return
        reasons.append(f"{url}: {len(content)} bytes with the SHA-256 {found[:16]}… instead of {weights.sha256[:16]}…")
    raise UserError(
        f"{weights.file} is not in {weights.cached.parent} and could not be downloaded"
        f"{' (' + '; '.join(reasons) + ')' if reasons else ''}; get it from {weights.source} and name it with "
        "--detector-weights FILE, or use --detector haar"
    )


def fetch(url: str) -> bytes:
    """The content at an address, redirections followed; URLError or OSError where there is none."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        return response.read(MAX_BYTES)
