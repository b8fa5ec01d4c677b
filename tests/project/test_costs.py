"""What an image costs, counted and not timed: seconds are too noisy to hold in a test, and these are not."""

import sys
import tracemalloc
from collections import Counter

import pytest

from pneumoscope import load
from pneumoscope.inference.predict import BATCH

# Of Python and of C alike, for one bundled JPEG from its bytes to the verdict.
MOST_CALLS = 250


@pytest.fixture(scope="module")
def predictor():
    return load()


def calls_of(work) -> Counter:
    """How often each function was called in this thread."""
    counted = Counter()

    def count(frame, event, argument):
        if event == "call":
            counted[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            counted[getattr(argument, "__qualname__", str(argument))] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def test_an_image_costs_so_many_calls(predictor, samples):
    data = samples[0].read_bytes()
    for _ in range(2):
        predictor.predict(data)  # what is imported, made or cached once
    counted = calls_of(lambda: predictor.predict(data))
    assert calls_of(lambda: predictor.predict(data)) == counted  # else the bound would be luck
    assert counted.total() <= MOST_CALLS, counted.most_common(20)


def test_an_image_is_read_decoded_and_judged_once(predictor, samples):
    """The strict decoder leaves no call event; OpenCV's would be a second decoding."""
    for path in samples:
        counted = calls_of(lambda path=path: list(predictor.predict_prepared([predictor.prepare(path)])))
        work = ("read_file", "read_radiograph", "_decode_jpeg_strictly", "imdecode", "Session.run")
        assert [counted[name] for name in work] == [1, 1, 1, 0, 1], path.name


def test_a_batch_is_one_forward_pass(predictor, samples):
    prepared = [predictor.prepare(path) for path in samples[:BATCH]]
    assert calls_of(lambda: list(predictor.predict_prepared(prepared)))["Session.run"] == 1


def test_a_folder_takes_no_more_memory_than_its_beginning(predictor, samples):
    """Images are held while they are judged, and no longer: what NumPy and Python hold at most does not grow."""

    def most_held(count: int) -> int:
        tracemalloc.start()
        try:
            for prediction in predictor.predict_many(samples[index % len(samples)] for index in range(count)):
                assert prediction.judged
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most_held(24)
    assert most_held(240) < 1.5 * most_held(48)
