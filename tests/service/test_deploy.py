"""What is shipped to run the service: the proxy for real, the unit by systemd's parser, the container by its words."""

import json
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import typer
from builders import ROOT
from builders.command_lines import parse_command
from builders.serving import serving

from pneumoscope import load
from pneumoscope.cli import app

DEPLOY = ROOT / "deploy"
NAME, TOKEN = "pneumoscope.example", "a-token-of-some-length"
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")


def certificate(folder: Path) -> tuple[Path, Path]:
    key, pem = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", pem,
         "-subj", f"/CN={NAME}", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return pem, key


@pytest.mark.skipif(not NGINX, reason="needs nginx, see requirements/debian.txt")
def test_tls_through_nginx(samples, tmp_path):
    """The shipped configuration with other ports and files: one request, 64 files, and a name that is not ours."""
    pem, key = certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(predictors={"mobilenet": load()}, token=TOKEN, hosts=("127.0.0.1", NAME)) as client:
        site = (DEPLOY / "nginx.conf").read_text()
        for old, new in (
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("/etc/pneumoscope/certificate.pem", str(pem)),
            ("/etc/pneumoscope/key.pem", str(key)),
            ("http://127.0.0.1:8000", str(client.base_url).rstrip("/")),
        ):
            assert old in site
            site = site.replace(old, new)
        (tmp_path / "tmp").mkdir()
        paths = "".join(
            f"{kind}_temp_path {tmp_path}/tmp;\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = tmp_path / "nginx.conf"
        config.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{paths}{site}}}\n")
        command = [NGINX, "-p", str(tmp_path), "-c", str(config), "-e", "stderr", "-g", "daemon off;"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as nginx:
            try:
                _ask_through(port, pem, samples)
                assert list((tmp_path / "tmp").iterdir()) == []
            finally:
                nginx.terminate()


def _ask_through(port: int, pem: Path, samples: list[Path]) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "host": NAME}
    with httpx.Client(
        base_url=f"https://127.0.0.1:{port}", verify=ssl.create_default_context(cafile=pem), timeout=60
    ) as outside:
        ends = time.monotonic() + 30
        while True:
            try:
                outside.get("/healthz", headers=headers)
                break
            except httpx.ConnectError:
                assert time.monotonic() < ends
        files = [("files", (path.name, path.read_bytes())) for path in (samples * 3)[:64]]
        answer = outside.post("/v1/predictions", files=files, headers={**headers, "origin": f"https://{NAME}"})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["predictions"]) == 64
        assert outside.get("/v1/models", headers={"host": NAME}).status_code == 401
        assert outside.get("/healthz", headers={"host": "other.example"}).status_code == 200
        assert outside.get("/", headers={**headers, "host": "other.example"}).status_code == 421
        assert outside.get("/", headers=headers).status_code == 200


def test_the_unit_and_the_container_start_the_command():
    unit = (DEPLOY / "pneumoscope.service").read_text()
    words = shlex.split(re.search("^ExecStart=(.*)$", unit, re.MULTILINE).group(1))
    container = re.search(r"^ENTRYPOINT \[(.*)\]$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE).group(1)
    for command in (words, [word.strip(' "') for word in container.split(",")]):
        assert Path(command[0]).name == "pneumoscope"
        assert command[1] == "serve"
        parse_command(typer.main.get_command(app), command[1:])


def test_the_health_check_of_the_container_sees_whether_the_service_answers():
    """The command of the container file, with another port."""
    words = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE).group(1)
    program, *arguments = json.loads(words)
    assert program == "python"
    with serving(predictors={"mobilenet": load()}) as client:
        check = [sys.executable, *(word.replace(":8000", f":{client.base_url.port}") for word in arguments)]
        assert str(client.base_url.port) in check[-1]
        assert subprocess.run(check, check=False).returncode == 0
    assert subprocess.run(check, check=False, capture_output=True).returncode != 0


@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="needs systemd, see requirements/debian.txt")
def test_systemd_knows_every_word_of_the_unit(tmp_path):
    """Read by systemd's own parser; its rating of the sandbox is from 0, closed, to 10."""
    unit = tmp_path / "pneumoscope.service"
    text = (DEPLOY / "pneumoscope.service").read_text()
    command = shutil.which("true")
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={command}", text, flags=re.MULTILINE))
    verified = subprocess.run(
        [SYSTEMD_ANALYZE, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        [SYSTEMD_ANALYZE, "security", "--offline=true", str(unit)], capture_output=True, text=True, check=False
    )
    assert float(re.search(r"exposure level for \S+: (\S+)", rated.stdout).group(1)) < 2.5
