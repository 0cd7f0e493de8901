"""Progress bars whose rate is readable for slow work too, and durations in words."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} faces [{elapsed}<{remaining}, {pace}{postfix}]"


class FaceBar(tqdm):
    """A bar that counts faces: 12.3 faces/s, or 7.0 s a face where one takes longer than a second."""

    def __init__(self, **options: Any):
        super().__init__(unit=" faces", bar_format=FORMAT, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the line is made of."""
        facts = super().format_dict
        rate = facts["rate"] or (facts["n"] - facts["initial"]) / max(facts["elapsed"], 1e-9)
        return {**facts, "pace": describe_rate(rate)}

    def show(self, count: int) -> None:
        """Moves the bar to `count` faces."""
        self.update(max(0, count - self.n))


def describe_rate(rate: float) -> str:
    """Faces a second in words."""
    if rate <= 0:
        return "? faces/s"
    return f"{rate:,.1f} faces/s" if rate >= 1 else f"{1 / rate:,.1f} s a face"


def describe_duration(seconds: float) -> str:
    """42 s, 7 min, 6 h 58 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"
