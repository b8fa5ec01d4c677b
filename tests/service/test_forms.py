"""Every part of a form gets its answer, whatever its Content-Disposition says."""

import pytest
from builders.serving import problem_of

DISPOSITIONS = [
    (b'form-data; name="f"; filename="x.png"', "x.png"),
    (b"form-data; name=f; filename=x.png", "x.png"),
    (b'FORM-DATA; NAME="f"; FILENAME="x.png"', "x.png"),
    (b"form-data; name=f; filename*=UTF-8''na%C3%AFve%20x.png", "na\u00efve x.png"),
    (b"form-data; name=f; filename*=iso-8859-1'en'%A3.png", "\u00a3.png"),
    (b"form-data; name=f; filename*=no-such-charset''%C3%AF.png", "\u00ef.png"),
    (b"form-data; name=f; filename*=UTF-8''%FF.png", "\ufffd.png"),
    (b"form-data; name=f; filename=\"plain.png\"; filename*=UTF-8''other.png", "plain.png"),
    (b'form-data; name="field"; filename=""', "field"),
    (b'form-data; name="field"', "field"),
    (b"form-data", "part 11"),
    (b"attachment; filename=x.png", "x.png"),
    (b'form-data; filename="a\\"b;c.png"', 'a"b;c.png'),
    (b"", "part 14"),
    (None, "part 15"),
]


def form(parts, head=b"Content-Disposition: "):
    lines = [b"" if part is None else head + part + b"\r\n" for part, _ in parts]
    body = b"".join(b"--x\r\n" + line + b"\r\nno picture\r\n" for line in lines)
    return {"content": body + b"--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}


@pytest.mark.parametrize(
    "head", [b"Content-Disposition: ", b"content-disposition:", b"Content-Type: image/png\r\nCONTENT-DISPOSITION: "]
)
def test_every_part_has_an_answer_with_its_name(client, head):
    answer = client.post("/v1/predictions", **form(DISPOSITIONS, head))
    assert [one["path"] for one in answer.json()["predictions"]] == [name for _, name in DISPOSITIONS]
    assert {one["status"] for one in answer.json()["predictions"]} == {"error"}


def test_a_part_alone_without_a_name_is_judged(client, samples):
    body = b"--x\r\n\r\n" + samples[9].read_bytes() + b"\r\n--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    (found,) = client.post("/v1/predictions", content=body, headers=headers).json()["predictions"]
    assert (found["path"], found["label"]) == ("part 1", "PNEUMONIA")


def test_parts_without_a_name_count_against_the_limit(client):
    answer = client.post("/v1/predictions", **form([(None, "")] * 65))
    assert "at most 64 files" in problem_of(answer, 400)
    assert answer.json()["code"] == "too_many_files"
