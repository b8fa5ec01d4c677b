"""One number for one file: however an image is given, and whatever is judged with it, all digits are the same."""

import csv
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders.image_files import encode
from builders.serving import serving
from PIL import Image

from pneumoscope import explain, load
from pneumoscope.data import read_dataset
from pneumoscope.errors import UsageError
from pneumoscope.evaluation.evaluate import evaluate_model
from pneumoscope.inference.bundle import DEFAULT_MODEL, shipped_models
from pneumoscope.radiographs.images import read_radiograph

FILES = 100


@pytest.fixture(scope="module", params=shipped_models())
def predictor(request):
    return load(request.param)


@pytest.fixture(scope="module")
def many_files(real_data) -> list[Path]:
    """Full-size radiographs, each of another size, from beside the Kermany images."""
    files = sorted((real_data.parent / "chest_xray_full").rglob("*.jpeg"))
    if not files:
        pytest.skip("no full-size files beside the data")
    files = files[:: max(1, len(files) // FILES)][:FILES]  # of both labels
    assert len({read_radiograph(path).pixels.shape for path in files}) > FILES / 2
    return files


def digits(prediction):
    """Everything that a record says about the image and its verdict, but not where the image came from."""
    row = prediction.to_dict()
    return {name: value for name, value in row.items() if name not in ("path", "image_sha256")}


def check_file(predictor, path):
    """A file, its bytes, a file object and the explanation agree; so do its pixels, in every form."""
    by_path, data = predictor.predict(path), path.read_bytes()
    assert predictor.predict(data).to_dict() == {**by_path.to_dict(), "path": "<bytes>"}
    assert predictor.predict(io.BytesIO(data)).to_dict() == {**by_path.to_dict(), "path": "<BytesIO>"}
    with path.open("rb") as file:
        assert predictor.predict(file) == by_path
    explanation = explain(predictor, path)
    assert explanation.prediction == by_path
    assert explanation.heatmap.shape == read_radiograph(path).pixels.shape
    if by_path.gradcam is not None:
        np.testing.assert_array_equal(explanation.prediction.gradcam, by_path.gradcam)
    radiograph = read_radiograph(path)
    pixels, by_pixels = radiograph.pixels, predictor.predict(radiograph.pixels)
    for same in (radiograph, Image.fromarray(pixels), pixels / 255, pixels.astype(np.float32) / 255):
        assert digits(predictor.predict(same)) == digits(by_pixels)
    assert explain(predictor, pixels).prediction == by_pixels
    assert digits(predictor.predict(pixels.astype(np.uint16) * 257, value_range=(0, 65535))) == digits(by_pixels)
    if not predictor.bundle.spec.reads_smaller(data):
        assert digits(by_path) == digits(by_pixels)
    return by_path


@pytest.mark.parametrize("number", [0, 3, 5, 9, 20])
def test_every_way_to_give_a_bundled_file(predictor, samples, number):
    check_file(predictor, samples[number])


def test_a_png_has_the_digits_of_its_pixels(predictor, samples):
    """It has no smaller scale, so this holds for the default model too."""
    pixels = read_radiograph(samples[3]).pixels
    expected = digits(predictor.predict(pixels))
    assert digits(predictor.predict(encode(pixels, "PNG"))) == expected
    assert digits(predictor.predict(Image.open(io.BytesIO(encode(pixels, "PNG"))))) == expected
    assert digits(explain(predictor, cv2.imencode(".png", pixels)[1].tobytes()).prediction) == expected


def test_other_images_of_the_same_call_change_no_digit(predictor, samples):
    """Neither their number, nor their order, nor images among them that are refused."""
    alone = [predictor.predict(path) for path in samples]
    for count in (1, 2, 3, 4, 5, 7, len(samples)):
        assert list(predictor.predict_many(samples[:count])) == alone[:count]
    assert list(predictor.predict_many(reversed(samples))) == alone[::-1]
    with_refused = [source for path in samples for source in (path, b"no image")]
    assert list(predictor.predict_many(with_refused))[::2] == alone
    assert list(load(predictor.bundle.name, threads=1).predict_many(samples)) == alone


def test_evaluate_and_the_service_give_the_digits_of_predict(samples, samples_folder, tmp_path):
    predictor = load()
    expected = {path.name: predictor.predict(path).probability for path in samples}
    manifest = read_dataset(samples_folder)
    evaluate_model(predictor, manifest, manifest.records, "all", out=tmp_path, resamples=50)
    rows = csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines())
    assert {Path(row["path"]).name: float(row["probability"]) for row in rows} == expected
    with serving(predictors={"mobilenet": predictor}) as client:
        files = [("files", (path.name, path.read_bytes())) for path in samples]
        answer = client.post("/v1/predictions", files=files).json()["predictions"]
    assert {row["path"]: row["probability"] for row in answer} == expected


@pytest.mark.real
def test_every_way_to_give_a_file_of_full_size(predictor, many_files):
    # All of them with one model: the heatmap of an LSTM is 82 forward passes.
    files = many_files if predictor.bundle.name == DEFAULT_MODEL else many_files[::10]
    expected = [check_file(predictor, path) for path in files]
    assert list(predictor.predict_many(files)) == expected
    assert list(predictor.predict_many(files[:3])) == expected[:3]


def test_a_batch_is_an_array_of_images(samples):
    predictor = load()
    batch = np.stack([cv2.resize(read_radiograph(path).pixels, (300, 280)) for path in samples[:3]])
    expected = [digits(predictor.predict(image)) for image in batch]
    assert [digits(one) for one in predictor.predict_many(batch)] == expected
    assert [digits(one) for one in predictor.predict_many(batch[..., None])] == expected
    assert [digits(one) for one in predictor.predict_many(batch.astype(np.float32) / 255)] == expected
    deep = predictor.predict_many(batch.astype(np.uint16) * 16, value_range=(0, 4095))
    assert [digits(one) for one in deep] == expected
    colour = predictor.predict_many(np.repeat(batch[..., None], 3, axis=3))
    assert len(list(colour)) == 3


@pytest.mark.parametrize("shape", [(80, 100), (80, 100, 3), (80, 100, 1), (100,)])
def test_one_image_is_not_taken_for_a_batch(shape):
    with pytest.raises(UsageError, match="expected several images, received one ndarray alone"):
        load().predict_many(np.zeros(shape, np.uint8))


def test_one_source_that_could_be_iterated_is_not_taken_for_several(samples, gray):
    secret = samples[0].read_bytes()
    for source in (io.BytesIO(secret), secret, Image.fromarray(gray), read_radiograph(gray)):
        with pytest.raises(UsageError, match=r"expected several images, received one \w+ alone") as caught:
            load().predict_many(source)
        assert len(str(caught.value)) < 120, "the content is not part of the message"


def test_a_record_says_what_was_judged(samples, gray):
    """Pixels at full size are not what the model judges of the file of the same name."""
    predictor = load()
    assert predictor.predict(gray).path == "<array>"
    assert predictor.predict(gray, value_range=(0, 255)).path == "<array, 0 to 255>"
    assert explain(predictor, gray, value_range=(0, 255)).prediction.path == "<array, 0 to 255>"
    assert predictor.predict(Image.fromarray(gray)).path == "<image>"
    radiograph = read_radiograph(samples[0])
    assert predictor.predict(radiograph).path == f"<pixels of {samples[0]}>"
    assert predictor.predict(radiograph).image_sha256 == ""
    assert explain(predictor, radiograph).prediction == predictor.predict(radiograph)
    assert predictor.predict(read_radiograph(gray)).path == "<array>"
    assert explain(predictor, os.fspath(samples[0])).prediction.image_sha256 != ""
