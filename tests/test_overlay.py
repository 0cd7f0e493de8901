"""What is drawn on a frame lies where it should, at any size of frame, and covers no other face."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from config import EMOTIONS
from ferlib.figures.placement import overlaps, place_panel
from ferlib.video import overlay
from ferlib.video.overlay import (
    CLASS_COLORS,
    OPACITY,
    draw_faces,
    draw_map,
    draw_text,
    fill,
    map_colors,
    panel_size,
    text_mask,
    visible_box,
)
from ferlib.video.regions import RegionValues
from ferlib.video.tracking import TrackedFace

HAPPY = EMOTIONS.index("Happy")


def grey(height: int = 480, width: int = 640) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def tracked(box=(200, 150, 100, 120), track=1, label=HAPPY, map=None, to_frame=None) -> TrackedFace:
    probabilities = np.full(7, 0.05)
    probabilities[label] = 0.7
    return TrackedFace(track, box, probabilities, map, np.eye(2, 3) if to_frame is None else to_frame)


def test_an_empty_frame_gets_the_rate_alone():
    drawn = draw_faces(grey(), [], 25)
    changed = np.argwhere((drawn != 128).any(-1))
    assert changed[:, 0].max() < 40
    assert changed[:, 1].max() < 150


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1080, 1920), (120, 160), (640, 360)])
def test_the_box_has_the_colour_of_its_label_at_any_size(height, width):
    scale = height / 480
    box = (0.3 * width, 0.4 * height, 80 * scale, 100 * scale)
    drawn = draw_faces(grey(height, width), [tracked(box)], 25)
    middle = round(box[1] + box[3] / 2)
    assert drawn[middle, round(box[0])].tolist() == pytest.approx(CLASS_COLORS[HAPPY], abs=40)
    assert (drawn[middle, round(box[0]) + round(box[2]) // 2] == 128).all()  # the face itself is left alone


@pytest.mark.parametrize(
    "box", [(-50, -50, 100, 100), (600, 440, 200, 200), (0, 0, 640, 480), (700, 10, 50, 50), (5, 5, 0, 0)]
)
def test_boxes_at_and_beyond_the_edges_are_no_trouble(box):
    values = np.ones((48, 48), np.float32)
    drawn = draw_faces(grey(), [tracked(box, map=values, to_frame=np.eye(2, 3))], 25)
    assert drawn.shape == (480, 640, 3)
    left, top, right, bottom = visible_box(tracked(box), grey())
    assert 0 <= left < right <= 640
    assert 0 <= top < bottom <= 480


def test_the_map_lies_where_its_crop_was_taken_and_within_the_box():
    values = np.zeros((48, 48), np.float32)
    values[30:40, :20] = 1
    to_frame = np.array([[2.0, 0, 190], [0, 2.0, 140]])  # a crop pixel is two of the frame's
    picture = grey()
    one = tracked(map=values, to_frame=to_frame)
    draw_map(picture, one.map, one.to_frame, visible_box(one, picture))
    assert picture[140 + 70, 190 + 30] == pytest.approx((1 - OPACITY) * 128 + OPACITY * map_colors()[255], abs=1)
    assert (picture[140 + 30, 190 + 60] == 128).all()
    changed = np.argwhere((picture != 128).any(-1))
    assert changed.min(0) == pytest.approx([140 + 60, 200], abs=2)  # the box begins right of the map's first columns
    assert changed.max(0) == pytest.approx([140 + 78, 190 + 38], abs=2)


def test_a_turned_crop_is_turned_back():
    values = np.zeros((48, 48), np.float32)
    values[5, 40] = 1
    turned = cv2.getRotationMatrix2D((24, 24), 30, 2.0)
    turned[:, 2] += 200
    picture, one = grey(), tracked((150, 150, 200, 200), map=cv2.GaussianBlur(values, (0, 0), 2), to_frame=turned)
    one.map[:] /= one.map.max()
    draw_map(picture, one.map, one.to_frame, visible_box(one, picture))
    row, column = np.unravel_index(np.abs(picture.astype(int) - 128).sum(-1).argmax(), (480, 640))
    assert (column, row) == pytest.approx(turned @ (40, 5, 1), abs=2)


def test_bars_avoid_every_face_and_the_edges():
    taken = [(200, 150, 300, 270), (310, 100, 420, 300)]  # a face, and another to its right
    width, height = panel_size(1)
    left, top = place_panel(taken[0], (width, height), (640, 480), taken, 6)
    assert left + width <= 200
    assert not any(overlaps((left, top, left + width, top + height), other) for other in taken)
    assert place_panel((0, 0, 640, 480), (width, height), (640, 480), [(0, 0, 640, 480)], 6) is None


def test_faces_are_never_covered_by_the_bars_of_others():
    boxes = [(20 + 110 * number, 150, 90, 110) for number in range(5)]
    drawn = draw_faces(grey(), [tracked(box, track=number) for number, box in enumerate(boxes)], 25)
    for x, y, width, height in boxes:
        assert (drawn[y + 20 : y + height - 20, x + 20 : x + width - 20] == 128).all()


# ── regions ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SHORT, LONG = {"mouth": 0.31, "brows": -0.08, "nose": 0.01}, {"hair and surround": 0.4, "bridge of the nose": -0.2}


def named(box, values=SHORT, label=HAPPY) -> TrackedFace:
    return replace(tracked(box, label=label), regions=RegionValues(values, label, 0.0))


def differing(faces, height=480, width=640) -> np.ndarray:
    """Where the words of the regions are drawn: left, top, right, bottom of what they change; bars are not drawn."""
    plain = [replace(face, regions=None) for face in faces]
    changed = (draw_faces(grey(height, width), faces, 25) != draw_faces(grey(height, width), plain, 25)).any(-1)
    rows, columns = np.nonzero(changed)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_the_two_strongest_regions_stand_above_the_label(monkeypatch):
    written, drawn = [], overlay.text_mask

    def text_mask(text, *options):
        written.append(text)
        return drawn(text, *options)

    monkeypatch.setattr(overlay, "text_mask", text_mask)
    draw_faces(grey(), [tracked()], 25)
    assert not [text for text in written if "mouth" in text]
    draw_faces(grey(), [named((200, 150, 100, 120))], 25)
    assert "mouth +0.31, brows −0.08" in written
    left, top, right, bottom = differing([named((200, 150, 100, 120))])
    mask = drawn("mouth +0.31, brows −0.08", 13)
    label = drawn("Happy 70%", 16, True).shape[0] + 5
    assert bottom <= 150 - label
    assert top >= 150 - label - mask.shape[0] - 12
    assert left == pytest.approx(199, abs=2)
    assert right - left == pytest.approx(mask.shape[1] + 15, abs=2)


@pytest.mark.parametrize(
    "boxes",
    [
        [(30 + 150 * number, 150 + 20 * (number % 2), 110, 130) for number in range(4)],
        [(250, 0, 150, 180), (560, 200, 80, 100), (0, 350, 120, 130), (260, 250, 120, 140)],
        [(0, 0, 640, 480)],
        [(-40, 100, 100, 100), (600, 440, 200, 200)],
    ],
)
def test_words_overlap_no_label_and_no_other_words(boxes, monkeypatch):
    places = {"label": [], "rate": [], "regions": []}
    for name, found in places.items():
        function = getattr(overlay, f"draw_{name}")

        def draw(*given, function=function, found=found):
            place = function(*given)
            found.extend(place if isinstance(place, list) else [place])
            return place

        monkeypatch.setattr(overlay, f"draw_{name}", draw)
    draw_faces(grey(), [named(box, (SHORT, LONG)[number % 2]) for number, box in enumerate(boxes)], 25)
    assert len(places["regions"]) == len(boxes)
    others = places["label"] + places["rate"]
    for number, place in enumerate(places["regions"]):
        assert 0 <= place[0] < place[2] <= 640
        assert 0 <= place[1] < place[3] <= 480
        assert not any(overlaps(place, other) for other in others + places["regions"][:number])


def test_words_without_a_place_are_left_out():
    """In a frame that its label fills, words would cover it."""
    small = draw_faces(grey(20, 40), [tracked((0, 0, 40, 20))], 25)
    assert (draw_faces(grey(20, 40), [named((0, 0, 40, 20))], 25) == small).all()


def test_text_is_readable_and_remembered():
    mask = text_mask("Happy 83%", 16)
    assert mask.max() == 1
    assert 0.1 < mask.mean() < 0.5
    assert text_mask("Happy 83%", 16) is mask
    assert text_mask("Happy 83%", 32).shape[0] > 1.8 * mask.shape[0]
    assert text_mask("", 3).shape[1] == 1


def test_fills_and_texts_stop_at_the_edges():
    picture = grey(20, 20)
    fill(picture, (-5, -5, 5, 5), (0, 0, 0), 0.5)
    assert picture[4, 4].tolist() == [64] * 3
    assert picture[5, 5].tolist() == [128] * 3
    fill(picture, (30, 30, 40, 40), (0, 0, 0), 1)
    draw_text(picture, np.ones((8, 8), np.float32), 16, 16, (255, 0, 0))
    assert picture[19, 19].tolist() == [255, 0, 0]


@pytest.mark.parametrize("box", [(20, 30, 100, 120), (10, 2, 90, 110), (0, 0, 640, 480), (4, 20, 60, 8)])
def test_no_label_covers_the_scale_of_the_maps(box):
    rate = grey()
    corner = overlay.draw_rate(rate, 25, True, 1)
    drawn = draw_faces(grey(), [tracked(box, map=np.zeros((40, 40), np.float32))], 25)
    left, top, right, bottom = corner
    inner = (slice(top + 5, bottom - 2), slice(left + 5, right - 2))  # without the outline of the largest box
    unlike = (np.abs(drawn[inner].astype(int) - rate[inner]) > 60).any(-1)
    assert unlike.mean() < 0.1  # the box's outline may cross it
