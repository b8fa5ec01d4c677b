"""What the service answers: predictions, models, samples, its own description, counters."""

import base64
import concurrent.futures
import json
import re

import cv2
import httpx
import numpy as np
import pytest
from builders.given_models import GivenMaps
from builders.serving import files_of, problem_of, serving

from pneumoscope import explain, load
from pneumoscope.inference import Predictor
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.output.overlay import draw_overlay


def test_an_answer_has_the_predictions_of_the_command_line(client, samples):
    chosen = [samples[0], samples[9], samples[17]]
    answer = client.post("/v1/predictions", files=files_of(*chosen)).json()
    expected = [
        one.to_dict() | {"path": path.name} for one, path in zip(load().predict_many(chosen), chosen, strict=True)
    ]
    for found, wanted in zip(answer["predictions"], expected, strict=True):
        assert tuple(found) == (*FIELDS, "heatmap")
        assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-6)
        assert found["bacterial"] == pytest.approx(wanted["bacterial"], abs=1e-5)
        assert {**found, "probability": 0, "bacterial": 0} == {
            **wanted,
            "probability": 0,
            "bacterial": 0,
            "heatmap": None,
        }
    assert answer["notice"] == "Research use only, not a medical device."


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", ""])
def test_the_body_may_be_one_image(client, samples, kind):
    headers = {"content-type": kind} if kind else {}
    (found,) = client.post("/v1/predictions", content=samples[9].read_bytes(), headers=headers).json()["predictions"]
    assert (found["path"], found["label"]) == ("body", "PNEUMONIA")


def test_heatmaps_as_numbers_and_as_pictures(client, samples):
    expected = load().predict(samples[9])
    (found,) = client.post("/v1/predictions?heatmap=json", files=files_of(samples[9])).json()["predictions"]
    assert (found["heatmap"]["label"], found["heatmap"]["method"]) == ("PNEUMONIA", "Grad-CAM")
    np.testing.assert_allclose(found["heatmap"]["values"], expected.gradcam[1], atol=1e-5)
    (found,) = client.post("/v1/predictions?heatmap=png", files=files_of(samples[9])).json()["predictions"]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(found["heatmap"]["png"]), np.uint8), cv2.IMREAD_COLOR)
    radiograph = cv2.imread(str(samples[9]), cv2.IMREAD_GRAYSCALE)
    assert picture.shape[0] > radiograph.shape[0]
    assert np.ptp(picture.astype(int), axis=2).max() > 100  # in colour
    answer = client.post("/v1/predictions?heatmap=png&model=reference-lstm", files=files_of(samples[9])).json()
    assert answer["predictions"][0]["heatmap"] is None


def test_a_model_of_the_lungs_sends_its_field_and_the_evidence_of_the_verdict(samples):
    with serving(predictors={"given": Predictor(GivenMaps())}) as client:
        (found,) = client.post("/v1/predictions?heatmap=json", files=files_of(samples[9])).json()["predictions"]
        heatmap = found["heatmap"]
        assert (heatmap["label"], heatmap["method"]) == ("PNEUMONIA", "evidence in the lungs")
        assert heatmap["values"] == heatmap["lungs"] == [[1, 1, 0, 0]] * 4
        (found,) = client.post("/v1/predictions?heatmap=png", files=files_of(samples[9])).json()["predictions"]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(found["heatmap"]["png"]), np.uint8), cv2.IMREAD_COLOR)
    expected = draw_overlay(explain(Predictor(GivenMaps()), samples[9]))
    np.testing.assert_array_equal(picture, expected[:, :, ::-1])


def test_operating_point_and_prevalence_of_a_request(client, samples):
    def ask(query):
        (found,) = client.post(f"/v1/predictions{query}", files=files_of(samples[0])).json()["predictions"]
        return found

    points = client.get("/v1/models/mobilenet").json()["operating_points"]
    assert ask("?threshold=screening")["threshold"] == points["screening"]
    assert ask("?threshold=0.01")["threshold"] == 0.01
    expected = load(prevalence=0.05).predict(samples[0])
    found = ask("?prevalence=0.05")
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert (found["threshold"], found["prevalence"]) == (expected.threshold, 0.05)


def test_defaults_are_those_that_the_service_was_started_with(samples):
    started = load(threshold="screening", prevalence=0.05)
    with serving(predictors={"mobilenet": started}) as client:
        for query, expected in (
            ("", started),
            ("?threshold=0.3", load(threshold=0.3, prevalence=0.05)),
            ("?prevalence=0.5", load(threshold="screening", prevalence=0.5)),
        ):
            (found,) = client.post(f"/v1/predictions{query}", files=files_of(samples[0])).json()["predictions"]
            wanted = expected.predict(samples[0])
            assert found["probability"] == pytest.approx(wanted.probability, abs=1e-6)
            assert (found["threshold"], found["prevalence"]) == (wanted.threshold, wanted.prevalence)
        card = client.get("/v1/models/mobilenet").json()
        assert (card["threshold"], card["prevalence"]) == (started.threshold, 0.05)
        assert card["operating_points"]["screening"] == started.threshold


def test_a_bad_file_is_an_entry_among_others_and_a_problem_alone(client, samples):
    bad = ("files", ("notes.txt", b"no image"))
    answer = client.post("/v1/predictions", files=[*files_of(samples[0]), bad, *files_of(samples[9])])
    assert answer.status_code == 200
    assert [one["label"] for one in answer.json()["predictions"]] == ["NORMAL", None, "PNEUMONIA"]
    alone = client.post("/v1/predictions", files=[bad])
    assert (
        problem_of(alone, 422)
        == "expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image, received something else: convert it to PNG or JPEG"
    )
    assert alone.json()["prediction"]["path"] == "notes.txt"
    assert alone.json()["code"] == alone.json()["prediction"]["code"] == answer.json()["predictions"][1]["code"] != ""
    assert answer.json()["predictions"][0]["code"] == ""
    blank = cv2.imencode(".png", np.full((100, 100), 128, np.uint8))[1].tobytes()
    assert client.post("/v1/predictions", content=blank).json()["prediction"]["status"] == "rejected"


def test_models_and_their_cards(client):
    listed = client.get("/v1/models").json()["models"]
    assert [model["name"] for model in listed] == ["mobilenet", "reference-lstm"]
    assert [model["heatmap"] for model in listed] == [True, False]
    card = client.get("/v1/models/mobilenet").json()
    assert card["contract"] == json.loads(json.dumps(load().bundle.contract))
    assert 0.9 < card["metrics"]["roc_auc"]["value"] <= 1
    assert "received 'other'" in problem_of(client.get("/v1/models/other"), 404)


def test_the_api_describes_itself(client):
    found = client.get("/openapi.json").json()
    service = {"/v1/predictions", "/v1/models", "/v1/models/{name}", "/healthz", "/readyz", "/metrics"}
    assert set(found["paths"]) == service | {"/v1/samples", "/v1/samples/{name}", "/v1/renderings"}
    body = found["paths"]["/v1/predictions"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "image/jpeg", "application/dicom"} <= set(body)
    assert "HTTPValidationError" not in found["components"]["schemas"]


def test_every_answer_has_a_described_type_and_the_token_is_described(client):
    found = client.get("/openapi.json").json()
    assert "Problem" in found["components"]["schemas"]
    for path, methods in found["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                ((kind, content),) = answer["content"].items()
                if status[0] in "45":
                    assert (kind, content) == (
                        "application/problem+json", {"schema": {"$ref": "#/components/schemas/Problem"}}
                    )  # fmt: skip
                elif kind == "application/json":
                    assert "$ref" in content["schema"], path
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert found["security"] == [{}, {"token": []}]
    assert found["paths"]["/healthz"]["get"]["security"] == []


def test_answers_follow_their_description(client, samples):
    """Each answer, errors as well, passes through the types that the description is made of."""
    from pneumoscope.service import schemas

    for path, kind in (
        ("/v1/models", schemas.Models),
        ("/v1/models/mobilenet", schemas.ModelCard),
        ("/v1/samples", schemas.Samples),
        ("/readyz", schemas.Health),
        ("/v1/models/other", schemas.Problem),
        ("/nothing", schemas.Problem),
    ):
        kind.model_validate(client.get(path).json(), extra="forbid")
    for files, kind in ((files_of(*samples[:2]), schemas.Predictions), ([("f", ("n", b"no"))], schemas.Problem)):
        kind.model_validate(client.post("/v1/predictions?heatmap=json", files=files).json(), extra="forbid")


def test_the_example_in_the_description_is_a_real_answer(client, samples):
    described = client.get("/openapi.json").json()["paths"]["/v1/predictions"]["post"]
    example = described["responses"]["200"]["content"]["application/json"]["example"]
    sample = next(path for path in samples if path.name == example["predictions"][0]["path"])
    (answer,) = client.post("/v1/predictions", files=files_of(sample)).json()["predictions"]
    assert example["predictions"] == [{name: value for name, value in answer.items() if value is not None}]


def test_health_and_counters(client, samples):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}

    def count_images():
        text = client.get("/metrics").text
        images = re.findall(r'pneumoscope_images_total\{model="mobilenet",status="\w+"\} (\S+)', text)
        assert 'route="/v1/predictions",status="200"' in text
        assert "pneumoscope_images_inside 0.0" in text
        return sum(map(float, images))

    client.post("/v1/predictions", files=files_of(samples[0]))
    before = count_images()
    client.post("/v1/predictions", files=files_of(*samples[:3]))
    assert count_images() == before + 3
    assert samples[0].name not in client.get("/metrics").text


def test_many_clients_get_their_own_answers(client, samples):
    expected = {path.name: one.probability for path, one in zip(samples, load().predict_many(samples), strict=True)}

    def ask(path):
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            return [own.post("/v1/predictions", files=files_of(path)).json()["predictions"][0] for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for path, answers in zip(samples, pool.map(ask, samples), strict=True):
            for found in answers:
                assert found["path"] == path.name
                assert found["probability"] == pytest.approx(expected[path.name], abs=1e-5)
