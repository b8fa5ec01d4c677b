"""Checks before every request: who sends it, and how long it may take; and security headers for every answer.

The service listens on this machine only, but a browser on this machine can be used to reach it. A page from another
site may send requests to it (cross-site requests), or point its own host name at 127.0.0.1 (DNS rebinding). So ``Host``
must be a name of this service. If a browser sends ``Origin``, it must be the same name.
"""

import asyncio
import hmac
from urllib.parse import urlsplit

from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pneumoscope.service.problems import problem_response

#: Seconds that a request may take, its upload included.
TIMEOUT = 30.0
#: Bytes of an answer that are sent at a time.
CHUNK = 65_536
#: Headers of every answer. Pages may load files of this service only.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
#: Path of the page's files.
PAGE_PATH = "/page"
#: Paths that need no token: they show only that the service runs, or are the page, which asks for the token.
OPEN_PATHS = ("/", "/healthz", "/readyz")
#: Paths that answer under any host name: an orchestrator asks for them at the address of the container.
ANY_HOST_PATHS = ("/healthz", "/readyz", "/metrics")


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: the application.
        hosts: host names of this service, without port.
        token: each request must carry it as ``Authorization: Bearer``; None for no token.
        timeout: seconds that a request may take.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], token: str | None, timeout: float = TIMEOUT) -> None:
        self.app, self.hosts, self.timeout = app, {host.lower() for host in hosts}, timeout
        self._token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        path = get_route_path(scope)
        refusal = self._refuse(path, exchange.headers)
        if not refusal and not path:  # the links of the page are relative to the path of the proxy with a slash
            refusal = RedirectResponse(f"{scope['root_path']}/", 308)
        if refusal:
            await refusal(scope, receive, exchange.send)
            return
        try:
            async with asyncio.timeout(self.timeout):
                await self.app(scope, exchange.receive, exchange.send)
        except (TimeoutError, asyncio.CancelledError) as error:
            if exchange.started:  # a part of the answer is sent: the server closes the connection
                return
            status, code, sentence = self._explain_end(error, exchange.body_complete)
            late = problem_response(status, code, sentence, {"retry-after": "1", "connection": "close"})
            await late(scope, receive, exchange.send)

    def _explain_end(self, error: BaseException, body_complete: bool) -> tuple[int, str, str]:
        """Status, code and sentence for a request that was ended before its answer."""
        if isinstance(error, asyncio.CancelledError):  # the server stops, and its grace period is over
            return 503, "stopping", "expected an answer before the service ends, it ends now: try again later"
        late = "the answer" if body_complete else "the request"
        sentence = f"expected {late} within {self.timeout:g} seconds, it took longer: send fewer images at a time"
        return (503, "answer_timeout", sentence) if body_complete else (408, "request_timeout", sentence)

    def _refuse(self, path: str, headers: Headers) -> Response | None:
        """The answer to a request that is not allowed; None for one that is."""
        if path not in ANY_HOST_PATHS and not self._is_own_host(f"//{headers.get('host', '')}"):
            return problem_response(
                421, "wrong_host", f"expected one of {', '.join(sorted(self.hosts))} as host, received another"
            )
        origin = headers.get("origin")
        is_link = path == "/" and headers.get("sec-fetch-mode") == "navigate"  # a user followed a link to this page
        from_other_site = headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link
        if (origin is not None and not _is_same_origin(origin, headers)) or from_other_site:
            return problem_response(
                403, "cross_origin", "expected a request of this service's own page or of a program, received a page's"
            )
        if self._token and path not in OPEN_PATHS and not path.startswith(f"{PAGE_PATH}/"):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
                sentence = "expected the header 'Authorization: Bearer TOKEN' with the token of this service"
                return problem_response(401, "unauthorized", sentence, {"www-authenticate": "Bearer"})
        return None

    def _is_own_host(self, address: str) -> bool:
        try:
            return (urlsplit(address).hostname or "") in self.hosts
        except ValueError:  # an IPv6 address without its bracket
            return False


class _Exchange:
    """Receives a request and sends its answer, and notes how far both are.

    Attributes:
        headers: of the request.
        body_complete: the whole body has been received.
        started: the answer has begun.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.headers = Headers(scope=scope)
        self.body_complete = self.started = False
        self._has_body = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.body_complete = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            del headers["server"]
            if self._has_body and not self.body_complete:  # the rest of the body is not read, see server.py
                headers["connection"] = "close"
        body = message.get("body", b"")
        for start in range(0, len(body) - CHUNK, CHUNK):  # between chunks, the server waits for a slow client
            await self._send({**message, "body": body[start : start + CHUNK], "more_body": True})
        if len(body) > CHUNK:
            message = {**message, "body": body[-(len(body) % CHUNK or CHUNK) :]}
        await self._send(message)


def _is_same_origin(origin: str, headers: Headers) -> bool:
    """Whether the origin has the name and port of the host. The scheme may be that of a proxy before this service."""
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{headers.get('host', '')}")
        default_port = {"http": 80, "https": 443}.get(theirs.scheme)
        their_port, our_port = theirs.port or default_port, ours.port or default_port
        return bool(theirs.hostname) and theirs.hostname == ours.hostname and their_port == our_port is not None
    except ValueError:
        return False
