"""Hostile files and generated requests are answered, or refused with an error of one sentence."""

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

FILES_PER_MUTATION = 6  # benchmarks/service/fuzz_service.py sends two thousand files


@pytest.fixture(scope="module")
def hostile(samples):
    """(name of the mutation, bytes) of each file."""
    return list(mutated_files(samples[::6], FILES_PER_MUTATION * len(MUTATIONS)))


def test_hostile_files_are_repeatable_and_differ(hostile, samples):
    assert len({data for _, data in hostile}) > 0.9 * len(hostile)
    without_dicom = {name for name, (_, formats) in MUTATIONS.items() if "dicom" not in formats}
    again = mutated_files(samples[::6], FILES_PER_MUTATION * len(MUTATIONS))
    for (name, data), (_, other) in zip(hostile, again, strict=True):
        assert data == other or name not in without_dicom  # DICOM files have new UIDs each time


def test_hostile_exif_is_oriented_as_by_opencv(samples):
    seen = set()
    for seed in range(240):
        data = exif_trick(np.random.default_rng(seed), samples[seed % len(samples)].read_bytes())
        with contextlib.suppress(UnreadableImage):
            pixels = read_radiograph(data).pixels
            seen.add(exif_orientation(data))
            np.testing.assert_array_equal(pixels, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    assert seen >= {*range(9)}


def test_hostile_files_are_read_or_refused_in_one_sentence(hostile):
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


def test_hostile_files_do_not_affect_the_service(hostile, samples):
    with serving(predictors={"mobilenet": load()}) as client:
        before = client.post("/v1/predictions", content=samples[0].read_bytes()).json()
        for name, data in hostile:
            response = client.post("/v1/predictions", content=data)
            assert response.status_code in (200, 400, 413, 422), (name, response.text)
        form = [("files", (name, data)) for name, data in hostile[:30]]
        predictions = client.post("/v1/predictions", files=form).json()["predictions"]
        assert [prediction["path"] for prediction in predictions] == [name for name, _ in hostile[:30]]
        assert client.post("/v1/predictions", content=samples[0].read_bytes()).json() == before


def test_requests_generated_from_the_openapi_document():
    """Requests that the document allows or forbids: no server error, and responses as documented."""
    requests = collections.Counter()
    with serving(predictors={"mobilenet": load()}) as client:
        schema = schemathesis.openapi.from_url(str(client.base_url.join("/openapi.json")))
        for operation in (result.ok() for result in schema.get_all_operations()):
            for mode in schemathesis.GenerationMode:

                @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
                @given(case=operation.as_strategy(generation_mode=mode))
                def check(case):
                    requests[case.operation.path] += 1
                    # A schema cannot say which bytes are a radiograph, so the service may refuse allowed bytes.
                    case.call_and_validate(excluded_checks=[positive_data_acceptance])

                with contextlib.suppress(Unsatisfiable):  # a request without parameters cannot be invalid
                    check()
    assert len(requests) == 9
    assert requests["/v1/predictions"] >= 20
