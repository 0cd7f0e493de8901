"""A request that is refused: the status of its answer and the sentence that says why."""

from __future__ import annotations

from starlette.responses import JSONResponse, PlainTextResponse, Response


class Refusal(Exception):
    """A request that is not served."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    def answer(self, as_json: bool = False) -> Response:
        """The answer; Gradio's client shows the `detail` of JSON, and the text of a refused upload."""
        if as_json:
            return JSONResponse({"detail": self.sentence}, self.status)
        return PlainTextResponse(self.sentence, self.status)
