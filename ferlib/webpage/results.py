"""The results of photos while their pages are open: found by a token, bounded in number and bytes, then forgotten."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

from ferlib.webpage.photo_results import PhotoResult

RESULTS = 50  # that are kept; the one unused longest is forgotten first
VOLUME = 100 * 2**20  # bytes of all that are kept


@dataclass
class Results:
    """Results by token; one that was not asked for in `keep_seconds` is forgotten."""

    keep_seconds: float
    kept: dict[str, tuple[PhotoResult, float]] = field(default_factory=dict)  # token → result, time; the oldest first
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, result: PhotoResult) -> str:
        """Keeps a result under a new token."""
        token = secrets.token_hex(16)
        with self.lock:
            self.kept[token] = result, time.monotonic()
            while len(self.kept) > RESULTS or (len(self.kept) > 1 and self.volume > VOLUME):
                del self.kept[next(iter(self.kept))]
        return token

    @property
    def volume(self) -> int:
        """Bytes of all that are kept."""
        return sum(result.volume for result, _ in self.kept.values())

    def find(self, token: str | None) -> PhotoResult | None:
        """The result of a token, or None where it was forgotten."""
        self.expire()
        with self.lock:
            if token is None or token not in self.kept:
                return None
            result, _ = self.kept.pop(token)
            self.kept[token] = result, time.monotonic()
        return result

    def forget(self, token: str | None) -> None:
        """Forgets the result of a token, which another one replaces."""
        with self.lock:
            self.kept.pop(token or "", None)

    def expire(self) -> None:
        """Forgets what was not asked for in `keep_seconds`."""
        limit = time.monotonic() - self.keep_seconds
        with self.lock:
            for token in [token for token, (_, used) in self.kept.items() if used < limit]:
                del self.kept[token]
