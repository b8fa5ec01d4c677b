"""What the service refuses: wrong requests, other hosts and origins, requests without the token."""

import pytest
from builders.serving import TOKEN, files_of, problem_of, serving

from pneumoscope import load
from pneumoscope.service.guard import SECURITY_HEADERS
from pneumoscope.service.uploads import MAX_FILE_BYTES, MAX_FILES


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?model=other", "expected a model among mobilenet, reference-lstm, received 'other'"),
        ("?threshold=2", "expected a threshold from 0 to 1, or default or screening, received 2.0"),
        ("?prevalence=7", "expected a prevalence between 0 and 1, received 7.0"),
        ("?prevalence=much", "expected another prevalence: input should be a valid number"),
        ("?heatmap=gif", "expected another heatmap: input should be 'json' or 'png'"),
    ],
)
def test_wrong_parameters_give_a_sentence(client, samples, query, sentence):
    assert problem_of(client.post(f"/v1/predictions{query}", files=files_of(samples[0])), 400).startswith(sentence)


def test_wrong_bodies_give_a_sentence(client):
    def ask(content, kind):
        return client.post("/v1/predictions", content=content, headers={"content-type": kind})

    form = "multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nabc\r\n'
    assert "received an empty body" in problem_of(ask(b"", "image/png"), 400)
    assert "a whole form" in problem_of(ask(part, form), 400)
    assert "at least one file" in problem_of(ask(b"--x--\r\n", form), 400)
    assert ask(b"--x--\r\n", form).json()["code"] == "no_file"
    assert "a boundary" in problem_of(ask(b"", "multipart/form-data"), 400)
    assert "RFC 7578" in problem_of(ask(b"nothing of the kind", form), 400)
    assert "at most 256 bytes" in problem_of(ask(part, f"multipart/form-data; boundary={'a' * 300}"), 400)
    headers = b"".join(b"X-Long-%d: %s\r\n" % (number, b"a" * 3900) for number in range(3))
    long = b"".join(b"--x\r\n" + headers + b"\r\nabc\r\n" for _ in range(64)) + b"--x--\r\n"
    assert "long headers" in problem_of(ask(long, form), 400)
    assert "RFC 7578" in problem_of(ask(b"--x\r\nX-Long: " + bytes(100_000), form), 400)
    assert problem_of(ask(part + b"--x--\r\n", form), 422).startswith(
        "expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image"
    )


def test_limits_of_files(client):
    big = bytes(MAX_FILE_BYTES + 1)
    assert "at most 20 MB" in problem_of(client.post("/v1/predictions", content=big), 413)
    assert "at most 20 MB" in problem_of(client.post("/v1/predictions", files=[("f", ("a", big))]), 413)
    many = [("files", (f"{number}", b"x")) for number in range(MAX_FILES + 1)]
    assert f"at most {MAX_FILES} files" in problem_of(client.post("/v1/predictions", files=many), 400)
    assert client.post("/v1/predictions", files=many[1:]).status_code == 200
    assert "at most 8 files" in problem_of(client.post("/v1/predictions?heatmap=png", files=many[:9]), 400)
    assert "pneumoscope_images_inside 0.0" in client.get("/metrics").text  # everything is released


def test_unknown_paths_and_methods_are_refused(client):
    assert "see /openapi.json" in problem_of(client.get("/nothing"), 404)
    assert "see /openapi.json" in problem_of(client.get("/v1/predictions"), 405)


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/models"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert not {"server", "access-control-allow-origin"} & set(headers)


def test_other_hosts_and_origins_are_refused(client):
    for host in ("attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "", "[::1"):
        assert "as host, received another" in problem_of(client.get("/v1/models", headers={"host": host}), 421)
        for probe in ("/healthz", "/readyz", "/metrics"):  # a kubelet asks at the address of the container
            assert client.get(probe, headers={"host": host}).status_code == 200
    own = str(client.base_url).rstrip("/")
    for origin, status in ((own, 200), ("https://attacker.example", 403), ("null", 403), ("http://[", 403)):
        assert client.get("/healthz", headers={"origin": origin}).status_code == status
    assert "a page's" in problem_of(client.get("/healthz", headers={"sec-fetch-site": "cross-site"}), 403)
    assert (
        client.get("/healthz", headers={"host": own.split("//")[1].replace("127.0.0.1", "localhost")}).status_code
        == 200
    )


def test_the_origin_may_be_that_of_a_proxy_or_in_capitals(samples):
    with serving(predictors={"mobilenet": load()}, hosts=("box.local", "localhost")) as client:
        for host, origin, status in (
            ("box.local", "https://box.local", 200),
            ("BOX.local", "https://box.local:443", 200),
            ("localhost:80", "http://localhost", 200),
            ("box.local", "https://box.local:8443", 403),
            ("box.local:81", "http://box.local", 403),
        ):
            assert client.get("/healthz", headers={"host": host, "origin": origin}).status_code == status, origin
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "host": "box.local"}
        assert client.get("/", headers=link).status_code == 200
        assert client.get("/v1/models", headers=link).status_code == 403


def test_requests_need_the_token_if_there_is_one(samples):
    with serving(token=TOKEN) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
            answer = client.get(path)
            assert "Bearer TOKEN" in problem_of(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \xe9"):
            headers = {"authorization": wrong.encode("latin-1")}
            assert client.post("/v1/predictions", files=files_of(samples[0]), headers=headers).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert client.post("/v1/predictions", files=files_of(samples[0]), headers=headers).status_code == 200
