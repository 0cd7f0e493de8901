"""The lines of CSV and JSON, the history of tracks, and the timeline drawn of it."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from config import EMOTIONS
from ferlib.figures import timeline as timeline_plots
from ferlib.figures.timeline import average_stretches, describe_history, insert_gaps, plot_timeline, spacing
from ferlib.video.log import HEADER, open_log
from ferlib.video.regions import RegionValues
from ferlib.video.sources import Frame
from ferlib.video.tracking import TrackedFace


def frame(number: int, fps: float = 25) -> Frame:
    return Frame(number, number / fps, np.zeros((4, 4, 3), np.uint8))


def tracked(track: int, label: int) -> TrackedFace:
    probabilities = np.full(7, 0.05, np.float32)
    probabilities[label] = 0.7
    return TrackedFace(track, (1.26, 2.0, 30.0, 40.0), probabilities)


def steady(seconds: float, label: int = 3, start: float = 0.0) -> list[tuple[float, np.ndarray]]:
    return [(start + time, tracked(1, label).probabilities) for time in np.arange(0, seconds, 0.1)]


def test_every_face_of_every_frame_has_its_line(tmp_path):
    with open_log(tmp_path / "out.csv", tmp_path / "new" / "out.jsonl") as log:
        log.add(frame(0), [tracked(1, 3), tracked(2, 0)])
        log.add(frame(1), [])
        log.add(frame(2), [tracked(2, 4)])
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HEADER
    assert [(row["frame"], row["track"], row["label"]) for row in rows] == [
        ("0", "1", "Happy"),
        ("0", "2", "Angry"),
        ("2", "2", "Neutral"),
    ]
    assert float(rows[2]["time"]) == 0.08
    assert [float(rows[0][side]) for side in ("x", "y", "width", "height")] == [1.3, 2, 30, 40]
    assert sum(float(rows[0][emotion]) for emotion in EMOTIONS) == pytest.approx(1)
    records = [json.loads(line) for line in (tmp_path / "new" / "out.jsonl").read_text().splitlines()]
    assert records[2] == {
        "frame": 2,
        "time": 0.08,
        "track": 2,
        "label": "Neutral",
        "confidence": 0.7,
        "box": [1.3, 2.0, 30.0, 40.0],
        "probabilities": {emotion: 0.7 if emotion == "Neutral" else 0.05 for emotion in EMOTIONS},
    }


def test_regions_are_in_the_first_line_that_has_them(tmp_path):
    values = RegionValues({"mouth": 0.31234, "brows": -0.08}, 3, time=frame(1).time)
    face = replace(tracked(1, 3), regions=values)
    for name, column in (("with", True), ("without", False)):
        with open_log(tmp_path / f"{name}.csv", tmp_path / f"{name}.jsonl", regions=column) as log:
            log.add(frame(0), [tracked(1, 3)])
            log.add(frame(1), [face, tracked(2, 0)])
            log.add(frame(2), [face])
        records = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert [record.get("regions") for record in records] == [None, {"mouth": 0.3123, "brows": -0.08}, None, None]
    with (tmp_path / "with.csv").open(newline="", encoding="utf-8") as file:
        assert [row["regions"] for row in csv.DictReader(file)] == ["", "mouth +0.31, brows −0.08", "", ""]
    with (tmp_path / "without.csv").open(newline="") as file:
        assert [len(row) for row in csv.reader(file)] == [len(HEADER)] * 5


def test_regions_are_not_lost_where_the_face_is_not_seen_when_they_come(tmp_path):
    """They are computed beside the frames: in the frame that has them the face may be hidden."""
    values = RegionValues({"mouth": 0.3}, 3, time=frame(1).time)
    with open_log(None, tmp_path / "out.jsonl") as log:
        log.add(frame(0), [tracked(1, 3)])
        log.add(frame(1), [])
        log.add(frame(2), [replace(tracked(1, 3), regions=values)])
        log.add(frame(3), [replace(tracked(1, 3), regions=values)])
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record.get("regions") for record in records] == [None, {"mouth": 0.3}, None]


def test_nothing_is_left_of_a_log_that_fails(tmp_path):
    with pytest.raises(ValueError, match="broken"), open_log(tmp_path / "out.csv", tmp_path / "out.jsonl"):
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_the_history_has_ten_points_a_second():
    with open_log(None, None) as log:
        for number in range(300):
            log.add(frame(number, fps=100), [tracked(1, 3)] + ([tracked(2, 1)] if number > 150 else []))
    times = [time for time, _ in log.history[1]]
    assert np.diff(times) == pytest.approx(np.full(29, 0.1))
    assert len(log.history[2]) == 15


# ── the picture ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gap_is_left_white():
    times, shares = insert_gaps([*steady(1), *steady(1, start=3)])
    empty = np.isnan(shares).any(1)
    assert empty.sum() == 2  # between the stretches, and after the last
    assert times[empty] == pytest.approx([1.0, 4.0])
    assert times[~empty].max() == pytest.approx(4.0)
    assert shares[~empty].sum(1) == pytest.approx(1)


def test_long_times_are_averaged():
    points = [(time, shares) for time, shares in zip(range(100), np.eye(7)[np.arange(100) % 2], strict=True)]
    means = average_stretches(points, 10)
    assert [time for time, _ in means] == pytest.approx(np.arange(4.5, 100, 10))
    assert np.stack([shares for _, shares in means])[:, :2] == pytest.approx(0.5)


def test_what_is_said_of_a_face():
    assert describe_history([*steady(1, label=3), *steady(3, label=5, start=1)]) == "most often Sad (75% of its time)"
    assert spacing(steady(1)) == pytest.approx(0.1)
    assert spacing(steady(0.1)) == 0.1


@pytest.mark.parametrize("history", [{1: steady(0.1)}, {1: steady(5), 4: steady(2, 0, 3)}, {1: steady(130)}])
def test_a_picture_is_drawn(tmp_path, history):
    plot_timeline(tmp_path / "timeline.png", history, "film.mp4", 0.3)
    with Image.open(tmp_path / "timeline.png") as picture:
        picture.load()
        assert picture.width > 1000


def test_of_many_faces_those_seen_longest_are_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(timeline_plots, "draw_track", lambda axis, points, title: drawn.append(title.split(":")[0]))
    history = {number: steady(number % 5 + 1) for number in range(1, 8)}  # 4 is seen longest, 5 for the shortest time
    plot_timeline(tmp_path / "timeline.png", history, "film.mp4", 0)
    assert drawn == ["Face 2", "Face 3", "Face 4", "Face 7"]
    assert timeline_plots.headline("film.mp4", 0, 4, 7).endswith("film.mp4, the 4 of 7 faces seen longest")
