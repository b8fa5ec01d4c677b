"""What stands before every request: whose it is, how long it may take, and the headers of its answer.

The service listens on this machine alone, and a browser on this machine is the way in for others: a page from elsewhere
may send it requests (cross-site), or point a name of its own at 127.0.0.1 (DNS rebinding). So ``Host`` must be a name
of this service, and ``Origin``, where a browser sends it, the same.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pneumoscope.service.problems import problem_response

#: Seconds that a request may take, its upload included.
TIMEOUT = 30.0
#: Bytes of an answer that are sent at a time.
PIECE = 65_536
#: Of every answer. Pages may load what this service serves and nothing else.
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
#: Where the parts of the page lie.
PAGE_PATH = "/page"
#: Paths that say nothing but that the service is up, and the page, which asks for the token: open without it.
OPEN_PATHS = ("/", "/healthz", "/readyz")


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: what it stands before.
        hosts: names of this service, without port.
        token: that requests have to bring as ``Authorization: Bearer``; None for none.
        timeout: seconds a request may take.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], token: str | None, timeout: float = TIMEOUT) -> None:
        self.app, self.hosts, self.timeout = app, {host.lower() for host in hosts}, timeout
        self._token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, whole, sent = False, False, Headers(scope=scope)
        has_body = sent.get("content-length", "0") != "0" or "transfer-encoding" in sent

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                del headers["server"]
                if has_body and not whole:  # what is left of it is not read: see listen
                    headers["connection"] = "close"
            body = message.get("body", b"")
            for start in range(0, len(body) - PIECE, PIECE):  # in pieces, between which a slow reader is waited for
                await send({**message, "body": body[start : start + PIECE], "more_body": True})
            await send({**message, "body": body[-(len(body) % PIECE or PIECE) :]} if len(body) > PIECE else message)

        async def receive_noting() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or (message["type"] == "http.request" and not message.get("more_body", False))
            return message

        refusal = self._refusal(scope["path"], sent)
        if refusal:
            await refusal(scope, receive, send_guarded)
            return
        try:
            async with asyncio.timeout(self.timeout):
                await self.app(scope, receive_noting, send_guarded)
        except (TimeoutError, asyncio.CancelledError) as error:
            if started:  # half an answer: the server ends the connection
                return
            if isinstance(error, asyncio.CancelledError):  # the server has waited for long enough
                status, sentence = 503, "expected an answer before the service ends, it ends now: try again later"
            else:
                what = "the answer" if whole else "the request"
                sentence = (
                    f"expected {what} within {self.timeout:g} seconds, it took longer: send fewer images at a time"
                )
                status = 503 if whole else 408
            late = problem_response(status, sentence, {"retry-after": "1", "connection": "close"})
            await late(scope, receive, send_guarded)

    def _refusal(self, path: str, headers: Headers) -> "Callable[..., Awaitable[None]] | None":
        if not self._is_ours(f"//{headers.get('host', '')}"):
            return problem_response(421, f"expected one of {', '.join(sorted(self.hosts))} as host, received another")
        origin = headers.get("origin")
        is_link = path == "/" and headers.get("sec-fetch-mode") == "navigate"  # followed to here from elsewhere
        from_elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link
        if (origin is not None and not self._is_same(origin, headers)) or from_elsewhere:
            return problem_response(
                403, "expected a request of this service's own page or of a program, received a page's"
            )
        if self._token and path not in OPEN_PATHS and not path.startswith(f"{PAGE_PATH}/"):
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
                sentence = "expected the header 'Authorization: Bearer TOKEN' with the token of this service"
                return problem_response(401, sentence, {"www-authenticate": "Bearer"})
        return None

    def _is_ours(self, address: str) -> bool:
        try:
            return (urlsplit(address).hostname or "") in self.hosts
        except ValueError:  # an IPv6 address without its bracket
            return False

    def _is_same(self, origin: str, headers: Headers) -> bool:
        """Whether name and port of the origin are those of the host; the scheme is that of a proxy, or ours."""
        try:
            theirs = urlsplit(origin)
            ours = urlsplit(f"{theirs.scheme}://{headers.get('host', '')}")
            default = {"http": 80, "https": 443}.get(theirs.scheme)
            ports = [each.port or default for each in (theirs, ours)]
            return bool(theirs.hostname) and theirs.hostname == ours.hostname and ports[0] == ports[1] is not None
        except ValueError:
            return False
