"""Hostile files, and requests made of the API's own schema: read, or refused in a sentence."""

import collections
import contextlib
import warnings

import cv2
import numpy as np
import pytest
import schemathesis
from builders.mutations import MUTATIONS, exif_trick, mutated_files
from builders.serving import serving
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pneumoscope import load
from pneumoscope.errors import ImageError, ImageTooLarge, RefusedImage, UnreadableImage
from pneumoscope.radiographs.codestream import exif_orientation
from pneumoscope.radiographs.images import Radiograph, read_radiograph

EACH = 6  # files of each mutation here; benchmarks/service/fuzz_service.py sends two thousand


@pytest.fixture(scope="module")
def hostile(samples):
    return list(mutated_files(samples[::6], EACH * len(MUTATIONS)))


def test_hostile_files_are_repeatable_and_differ(hostile, samples):
    assert len({data for _, data in hostile}) > 0.9 * len(hostile)
    dicom_free = {name for name, (_, formats) in MUTATIONS.items() if "dicom" not in formats}  # these hold new UIDs
    again = mutated_files(samples[::6], EACH * len(MUTATIONS))
    for (name, data), (_, other) in zip(hostile, again, strict=True):
        assert data == other or name not in dicom_free


def test_hostile_exif_is_turned_as_opencv_turns_it(samples):
    seen = set()
    for number in range(240):
        data = exif_trick(np.random.default_rng(number), samples[number % len(samples)].read_bytes())
        with contextlib.suppress(UnreadableImage):
            pixels = read_radiograph(data).pixels
            seen.add(exif_orientation(data))
            np.testing.assert_array_equal(pixels, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    assert seen >= {*range(9)}


def test_hostile_files_are_read_or_refused_in_a_sentence(hostile):
    outcomes, sentences = collections.Counter(), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, data in hostile:
            try:
                outcomes[type(read_radiograph(data))] += 1
            except ImageError as error:
                outcomes[type(error)] += 1
                sentences.append(str(error))
    assert not any("\n" in sentence or len(sentence) > 400 for sentence in sentences)
    assert set(outcomes) == {Radiograph, UnreadableImage, ImageTooLarge, RefusedImage}


def test_hostile_files_leave_the_service_as_it_was(hostile, samples):
    with serving(predictors={"mobilenet": load()}) as client:
        before = client.post("/v1/predictions", content=samples[0].read_bytes()).json()
        for name, data in hostile:
            answer = client.post("/v1/predictions", content=data)
            assert answer.status_code in (200, 400, 413, 422), (name, answer.text)
        together = [("files", (name, data)) for name, data in hostile[:30]]
        found = client.post("/v1/predictions", files=together).json()["predictions"]
        assert [one["path"] for one in found] == [name for name, _ in hostile[:30]]
        assert client.post("/v1/predictions", content=samples[0].read_bytes()).json() == before


def test_requests_of_the_own_description():
    """Whatever its OpenAPI document allows or forbids: no error of the server, and answers as described."""
    tried = collections.Counter()
    with serving(predictors={"mobilenet": load()}) as client:
        schema = schemathesis.openapi.from_url(str(client.base_url.join("/openapi.json")))
        for operation in (found.ok() for found in schema.get_all_operations()):
            for mode in schemathesis.GenerationMode:

                @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
                @given(case=operation.as_strategy(generation_mode=mode))
                def check(case):
                    tried[case.operation.path] += 1
                    # What bytes lack to be a radiograph no schema can say: to refuse them is right.
                    case.call_and_validate(excluded_checks=[positive_data_acceptance])

                with contextlib.suppress(Unsatisfiable):  # nothing can be wrong where nothing can be said
                    check()
    assert len(tried) == 9
    assert tried["/v1/predictions"] >= 20
