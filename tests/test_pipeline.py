"""Items prefetched in threads: order, errors and ends; parts timed; rates."""

import threading
import time

import pytest

from ferlib.video.pipeline import Rate, Stopwatch, prefetch


def test_items_come_in_order_through_several_threads():
    doubled = (2 * number for number in prefetch(iter(range(100)), depth=2))
    assert list(prefetch(doubled)) == [2 * number for number in range(100)]


def test_steps_run_beside_each_other():
    def slow(items):
        for item in items:
            time.sleep(0.02)
            yield item

    start = time.perf_counter()
    assert len(list(prefetch(slow(prefetch(slow(prefetch(slow(iter(range(12)))))))))) == 12
    assert time.perf_counter() - start < 0.75 * 12 * 3 * 0.02


def test_no_more_than_the_depth_is_made_prefetch():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    stream = prefetch(items(), depth=2)
    next(stream)
    time.sleep(0.1)
    assert len(made) <= 1 + 2 + 1  # taken, waiting, in the thread's hand
    stream.close()


def test_an_error_comes_where_its_item_would_have_been():
    def items():
        yield 1
        raise ValueError("broken")

    stream = prefetch(items())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)


def test_a_consumer_that_stops_ends_all_threads_and_closes_the_items():
    closed = []

    def items():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    before = threading.active_count()
    stream = prefetch(prefetch(items()))
    next(stream)
    stream.close()
    assert threading.active_count() == before
    assert closed == [True]


def test_a_stopwatch_adds_up():
    stopwatch = Stopwatch()
    for _ in range(3):
        with stopwatch("draw"):
            time.sleep(0.01)

    def items():
        for number in range(3):
            time.sleep(0.02)
            yield number

    assert list(stopwatch.timed("read", items())) == [0, 1, 2]
    assert stopwatch.seconds["draw"] == pytest.approx(0.03, abs=0.02)
    assert stopwatch.seconds["read"] == pytest.approx(0.06, abs=0.03)


def test_the_rate_is_that_of_the_last_second():
    rate = Rate(window=1.0)
    assert rate.tick(0.0) == 0
    assert rate.tick(0.1) == pytest.approx(10)
    for frame in range(1, 41):
        value = rate.tick(10 + frame / 20)
    assert value == pytest.approx(20)
