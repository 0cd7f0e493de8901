"""The flags that benchmarks of explanations share, and the network, data and engine that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config import Score
from ferlib.explanations.flags import engine_flags
from ferlib.explanations.subject import Subject, open_subject


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Which network is explained on which data."""

    model: str = "fer_resnet_wide"
    dataset: str = "fer2013"
    checkpoint: Path = Path("fer2013")
    data_dir: Path = Path("data")
    outputs_dir: Path = Path("outputs")
    batch_size: int = 64
    json: Path | None = None


def open_run(flags: RunFlags) -> Subject:
    """The network and its data, with the engine that a long run of an explaining script takes."""
    names = ("model", "dataset", "checkpoint", "data_dir", "outputs_dir", "batch_size")
    made = Score(**{name: getattr(flags, name) for name in names})
    return open_subject(made).with_engine(engine_flags(made), made.amp, passes=10**6)
