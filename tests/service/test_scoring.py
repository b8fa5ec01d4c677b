"""Worker threads: which image comes when, and what cancelling frees."""

import sys
import threading
from dataclasses import replace

from builders.serving import wait_until

from pneumoscope import load
from pneumoscope.service.scoring import Scorer


def test_each_worker_judges_one_image_and_the_others_wait_in_order(samples):
    """Two workers judge one image each; the others start in the order of arrival; one of them is cancelled."""
    started, go = [], threading.Semaphore(0)

    class WaitingPredictor:
        bundle = load().bundle
        prepare = load().prepare

        def predict_prepared(self, batch):
            started.append([one.path for one in batch])
            assert go.acquire(timeout=60)
            return load().predict_prepared(batch)

    scorer, predictor, data = Scorer(workers=2), WaitingPredictor(), [path.read_bytes() for path in samples]
    futures = [scorer.submit(predictor, one, str(number)) for number, one in enumerate(data)]
    wait_until(lambda: len(started) == 2)
    assert futures[7].cancel()
    for done in range(1, len(data)):
        go.release()
        wait_until(lambda done=done: len(started) == min(2 + done, len(data) - 1))
    assert [one.result(60) for number, one in enumerate(futures) if number != 7] == [
        replace(load().predict(one), path=str(number)) for number, one in enumerate(data) if number != 7
    ]
    names = [str(number) for number in range(len(data)) if number != 7]
    assert sorted(started[:2]) == [["0"], ["1"]]
    assert started[2:] == [[name] for name in names[2:]]
    scorer.close()


def test_a_cancelled_image_is_freed_at_once(samples):
    """Otherwise its bytes would stay in memory until a worker is free, beyond the limit on bytes."""
    go = threading.Event()

    class WaitingPredictor:
        bundle = load().bundle

        def prepare(self, data):
            go.wait(60)
            return load().prepare(data)

        def predict_prepared(self, batch):
            return load().predict_prepared(batch)

    scorer, data = Scorer(workers=1), bytearray(samples[0].read_bytes())
    first = scorer.submit(WaitingPredictor(), bytes(data), "first")
    before = sys.getrefcount(data)
    second = scorer.submit(WaitingPredictor(), data, "second")
    assert sys.getrefcount(data) > before
    second.cancel()
    assert sys.getrefcount(data) == before
    prediction = load().predict(samples[0])
    for begin in (lambda: scorer.render(data), lambda: scorer.draw(load(), data, prediction)):
        waiting = begin()
        assert sys.getrefcount(data) > before
        waiting.cancel()
        assert sys.getrefcount(data) == before
    go.set()
    assert first.result(60).judged
    scorer.close()
