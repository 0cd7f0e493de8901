"""Placement of labels and panels beside faces, where they cover no other."""

from __future__ import annotations

from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in pixels; the last two are outside


def overlaps(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles share an area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def is_inside(place: Rectangle, size: tuple[int, int]) -> bool:
    """Whether a rectangle lies in a picture of width and height `size`."""
    return min(place) >= 0 and place[2] <= size[0] and place[3] <= size[1]


def place_label(
    face: Rectangle,
    label: tuple[float, float],
    size: tuple[int, int],
    labels: Sequence[Rectangle],
    faces: Sequence[Rectangle],
) -> Rectangle:
    """The place of a label (width, height) of a face in a picture (width, height).

    Above the face, below, beside or within it: the first place that overlaps none of the other labels, else of the
    other faces. Places that reach beyond the picture are moved into it and come after those that do not.
    """
    left, top, right, bottom = face
    width, height = label
    corners = [
        (left, top - height - 2), (left, bottom + 2), (right + 2, top), (left - width - 2, top),
        (left, top + 2), (left, bottom - height - 2),
    ]  # fmt: skip
    places = [move_inside(*corner, label, size) for corner in corners]

    def faults(number: int) -> tuple[bool, bool, bool]:
        over_labels, over_faces = (any(overlaps(places[number], other) for other in kind) for kind in (labels, faces))
        return over_labels, places[number][:2] != corners[number], over_faces

    return places[min(range(len(places)), key=faults)]


def move_inside(left: float, top: float, label: tuple[float, float], size: tuple[int, int]) -> Rectangle:
    """A label's rectangle moved into the picture; one that is larger than the picture starts at its edge."""
    x = max(0.0, min(left, size[0] - label[0] - 1))
    y = max(0.0, min(top, size[1] - label[1] - 1))
    return x, y, x + label[0], y + label[1]


def place_panel(
    box: Rectangle, panel: tuple[int, int], size: tuple[int, int], occupied: Sequence[Rectangle], gap: int
) -> tuple[int, int] | None:
    """Upper left corner of a panel (width, height) beside or below a box in whole pixels, overlapping nothing.

    None where every such place reaches beyond the picture (width, height) or overlaps one of `occupied`.
    """
    left, top, right, bottom = (round(side) for side in box)
    width, height = panel
    for x, y in (
        (right + gap, top),
        (left - gap - width, top),
        (right + gap, bottom - height),
        (left - gap - width, bottom - height),
        (left, bottom + gap),
        (right - width, bottom + gap),
    ):
        place = (x, y, x + width, y + height)
        if is_inside(place, size) and not any(overlaps(place, other) for other in occupied):
            return x, y
    return None
