"""Tracks that persist, and smoothed probabilities, against results computed by hand."""

import math

import numpy as np
import pytest

from ferlib.video.tracking import Track, Tracker, intersection_over_union, match_boxes, smooth


def square(x: float, y: float = 0, side: float = 100) -> tuple[float, float, float, float]:
    return (x, y, side, side)


def numbers(tracker: Tracker, boxes: list, now: float) -> list[int]:
    return [track.number for track in tracker.update(boxes, now)]


def test_overlap_by_hand():
    first = np.array([square(0), square(0)])
    second = np.array([square(0), square(50), square(100), square(25, 25, 50)])
    expected = [1, 50 / 150, 0, 0.25]
    assert intersection_over_union(first, second) == pytest.approx(np.array([expected, expected]))
    assert intersection_over_union(np.array([(5, 5, 0, 0)]), np.array([(5, 5, 0, 0)])) == pytest.approx(0)


def test_a_face_that_moves_keeps_its_number():
    tracker = Tracker()
    for step in range(50):
        assert numbers(tracker, [square(20 * step)], step / 25) == [1]


def test_the_order_of_the_detector_does_not_matter():
    tracker = Tracker()
    assert numbers(tracker, [square(0), square(300)], 0) == [1, 2]
    assert numbers(tracker, [square(310), square(10)], 0.04) == [2, 1]


def test_matching_takes_the_largest_sum_of_overlaps():
    tracks = [Track(1, square(0), 0), Track(2, square(40), 0)]
    boxes = [square(30), square(70)]  # the nearest first would give the first box to 2 and leave 1 without
    matched = match_boxes(tracks, boxes, 0.1)
    assert {row: track.number for row, track in matched.items()} == {0: 1, 1: 2}


def test_faces_that_pass_each_other_in_two_rows_keep_their_numbers():
    tracker = Tracker()
    for step in range(60):
        assert numbers(tracker, [square(10 * step, 0), square(600 - 10 * step, 60)], step / 25) == [1, 2]


def test_a_lost_face_keeps_its_number_for_a_while():
    tracker = Tracker(max_gap=0.5)
    assert numbers(tracker, [square(0), square(300)], 0.0) == [1, 2]
    assert numbers(tracker, [square(300)], 0.2) == [2]
    assert numbers(tracker, [], 0.3) == []
    assert numbers(tracker, [square(5), square(305)], 0.5) == [1, 2]
    assert numbers(tracker, [], 0.9) == []
    assert numbers(tracker, [square(5)], 1.1) == [3]  # too late, and no number is given twice


@pytest.mark.parametrize("apart", [1 / 25, 0.5, 0.9, 5])
def test_a_face_keeps_its_number_however_far_frames_are_apart(apart):
    tracker = Tracker(max_gap=0.5)
    assert [numbers(tracker, [square(frame)], frame * apart) for frame in range(4)] == [[1]] * 4
    if apart > 0.5:
        assert numbers(tracker, [], 4 * apart) == []
        assert numbers(tracker, [square(4)], 5 * apart) == [2], "a frame without it ends a track"


def test_a_face_that_was_lost_before_a_stall_has_another_number():
    tracker = Tracker(max_gap=0.7)
    assert numbers(tracker, [square(0)], 9.6) == [1]
    assert numbers(tracker, [], 10.0) == []
    assert numbers(tracker, [square(0)], 11.0) == [2]


def test_a_jump_is_another_face():
    tracker = Tracker()
    assert numbers(tracker, [square(0)], 0) == [1]
    assert numbers(tracker, [square(90)], 0.04) == [2]  # 10 / 190 of both


def test_smoothing_follows_the_formula():
    track = Track(1, square(0), 0)
    before, after = np.array([1.0, 0, 0, 0, 0, 0, 0]), np.array([0, 1.0, 0, 0, 0, 0, 0])
    assert smooth(track, before, 0.0, 0.5) == pytest.approx(before)
    weight = 1 - math.exp(-0.1 / 0.5)
    assert smooth(track, after, 0.1, 0.5) == pytest.approx((1 - weight) * before + weight * after)
    assert track.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("fps", [5, 10, 30, 100])
def test_smoothing_does_not_depend_on_the_frame_rate(fps):
    track = Track(1, square(0), 0)
    smooth(track, np.array([1.0, 0]), 0.0, 0.5)
    for frame in range(1, fps + 1):
        smooth(track, np.array([0, 1.0]), frame / fps, 0.5)
    assert track.probabilities == pytest.approx([math.exp(-2), 1 - math.exp(-2)])  # one second, twice the time constant


def test_no_smoothing():
    track = Track(1, square(0), 0)
    smooth(track, np.array([1.0, 0]), 0.0, 0)
    assert smooth(track, np.array([0.25, 0.75]), 0.01, 0).tolist() == [0.25, 0.75]
