"""The example pictures of the page: a photo of scikit-image, and drawn faces."""

from __future__ import annotations

from functools import cache

import numpy as np
from skimage import data

from config import EMOTIONS
from ferlib.data.synthetic.faces import draw_face

DRAWN = ("Happy", "Surprise", "Sad", "Angry")  # expressions of the drawn examples, four
SIDE = 320  # of a drawn face


@cache
def make_examples() -> dict[str, np.ndarray]:
    """Name → uint8 H×W×3: a photo that comes with scikit-image, drawn faces, and the drawn faces in one picture."""
    drawn = {f"{name}, drawn": draw_example(number, name) for number, name in enumerate(DRAWN)}
    faces = np.stack(list(drawn.values())).reshape(2, 2, SIDE, SIDE, 3)
    four = np.concatenate([np.concatenate(row, axis=1) for row in faces])
    return {"a photo": data.astronaut(), **drawn, "four drawn faces": four}


def draw_example(number: int, emotion: str) -> np.ndarray:
    """uint8 SIDE×SIDE×3: another subject for each expression."""
    return draw_face(EMOTIONS.index(emotion), subject=number, sample=number, size=SIDE, seed=3, intensity=0.9).image
