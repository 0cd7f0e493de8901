"""The browsers' sessions in Gradio's memory: bounded in number and in answers that nobody fetched, then forgotten."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import gradio as gr

from ferlib.webpage.refusals import Refusal

SESSIONS = 50  # whose answers and pictures are kept; the one unused longest is forgotten first
UNREAD = 6  # events of a session whose answers were not fetched yet
QUEUED = 20  # events of all sessions that wait for the network
BUSY = "The page still works on what was asked before; wait for it, or load the page again."


@dataclass
class Sessions:
    """What Gradio holds of each session, by its last use; Gradio itself forgets neither unread answers nor sessions."""

    page: gr.Blocks
    keep_seconds: float
    used: dict[str, float] = field(default_factory=dict)  # session → time of its last event; the oldest first
    streams: Counter[str] = field(default_factory=Counter)  # session → open streams of messages

    def admit(self, session: str) -> None:
        """Notes an event of a session; Refusal where too many of its answers wait to be fetched."""
        unread = self.page._queue.pending_event_ids_session.get(session, ())
        if len(unread) >= UNREAD:
            raise Refusal(429, BUSY)
        self.used.pop(session, None)
        self.used[session] = time.monotonic()
        for oldest in [name for name in self.used if self.is_idle(name)][: max(len(self.used) - SESSIONS, 0)]:
            self.forget(oldest)
        if len(self.used) > SESSIONS + QUEUED:
            self.forget(session)
            raise Refusal(503, BUSY)

    def is_known(self, session: str) -> bool:
        """Whether messages for a session are kept."""
        return session in self.page._queue.pending_messages_per_session

    def is_idle(self, session: str) -> bool:
        """Whether no event of a session waits or runs, and nobody listens for its messages."""
        events = self.page._queue.event_ids_to_events.values()
        return not self.streams[session] and all(event.session_hash != session for event in events)

    def expire(self) -> None:
        """Forgets idle sessions without an event in `keep_seconds`."""
        limit = time.monotonic() - self.keep_seconds
        for session in [name for name, last in self.used.items() if last < limit and self.is_idle(name)]:
            self.forget(session)

    def forget(self, session: str) -> None:
        """Removes a session from Gradio's memory."""
        queue, holder = self.page._queue, self.page.state_holder
        for table in (
            self.used,
            self.streams,
            queue.pending_messages_per_session,
            queue.pending_event_ids_session,
            holder.session_data,
            holder.time_last_used,
        ):
            table.pop(session, None)
