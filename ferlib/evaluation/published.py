"""Published results as rows beside our own: what was scored, how the epoch was picked, and the interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ferlib.data.facts import dataset_facts
from ferlib.evaluation.metrics import accuracy_interval


@dataclass(frozen=True)
class Published:
    """An accuracy as its authors state it; none was reproduced here."""

    system: str
    accuracy: float
    scored: str  # the part of the data set that the figure is of
    picked: str  # how the epoch was chosen
    start: str  # weights at the start
    views: str

    def row(self, faces: int) -> dict[str, Any]:
        """The same as plain Python with Wilson's 95 % interval for so many test faces."""
        correct = np.arange(faces) < round(self.accuracy * faces)
        return {**vars(self), "faces": faces, "interval": accuracy_interval(correct)}


PUBLISHED = {
    "fer2013": (
        Published("FER_XAI, ResNet-50", 0.7088, "PrivateTest", "best accuracy on PublicTest", "ImageNet", "single"),
        Published(
            "FER_XAI, EfficientNet-B0", 0.7108, "PrivateTest", "best accuracy on PublicTest", "ImageNet", "single"
        ),
        Published(
            "VGG, Khaireddin & Chen 2021",
            0.7328,
            "PrivateTest",
            "best accuracy on PrivateTest, the part that is scored: biased upwards",
            "random",
            "ten crops",
        ),
        Published(
            "Residual Masking Network, Pham et al. 2020",
            0.7414,
            "PrivateTest",
            "best accuracy on PublicTest",
            "ImageNet",
            "averaged",
        ),
        Published(
            "the same and six others, Pham et al. 2020",
            0.7682,
            "PrivateTest",
            "best accuracy on PublicTest, of each of seven networks",
            "ImageNet",
            "averaged",
        ),
    ),
}


def published_rows(dataset: str) -> list[dict[str, Any]]:
    """The rows of a data set, for its official number of test faces; none for most sets."""
    counts = dataset_facts(dataset).official_counts or {}
    return [each.row(sum(counts["test"])) for each in PUBLISHED.get(dataset, ())]
