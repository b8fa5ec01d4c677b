"""What one image costs, in calls and memory. Seconds vary too much for a test; counts do not."""

import sys
import tracemalloc
from collections import Counter

import pytest

from pneumoscope import load

# Calls of Python and C functions, for one bundled JPEG from its bytes to the verdict.
MAX_CALLS = 260


@pytest.fixture(scope="module")
def predictor():
    return load()


def count_calls(work) -> Counter:
    """How often each function was called in this thread."""
    calls: Counter[str] = Counter()

    def count(frame, event, argument):
        if event == "call":
            calls[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            calls[getattr(argument, "__qualname__", str(argument))] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_an_image_costs_a_limited_number_of_calls(predictor, samples):
    data = samples[0].read_bytes()
    for _ in range(2):
        predictor.predict(data)  # imports, and what is created or cached once
    calls = count_calls(lambda: predictor.predict(data))
    assert count_calls(lambda: predictor.predict(data)) == calls  # otherwise the test would pass by chance
    assert calls.total() <= MAX_CALLS, calls.most_common(20)


def test_an_image_is_read_decoded_and_judged_once(predictor, samples):
    """The strict decoder makes no call event; a call of OpenCV's decoder would be a second decoding."""
    for path in samples:
        calls = count_calls(lambda path=path: list(predictor.predict_prepared([predictor.prepare(path)])))
        work = ("read_file", "read_radiograph", "_decode_jpeg_strictly", "imdecode", "Session.run")
        assert [calls[name] for name in work] == [1, 1, 1, 0, 1], path.name


def test_each_image_is_one_forward_pass_of_its_own(predictor, samples):
    """Together with others, its last digit could depend on them."""
    prepared = [predictor.prepare(path) for path in samples[:5]]
    assert count_calls(lambda: list(predictor.predict_prepared(prepared)))["Session.run"] == 5


def test_memory_does_not_grow_with_the_number_of_images(predictor, samples):
    """Images are in memory only while they are judged: the peak of NumPy and Python memory stays the same."""

    def peak_memory(count: int) -> int:
        tracemalloc.start()
        try:
            for prediction in predictor.predict_many(samples[index % len(samples)] for index in range(count)):
                assert prediction.judged
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_memory(24)
    assert peak_memory(240) < 1.5 * peak_memory(48)
