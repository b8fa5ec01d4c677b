"""The socket under the service: bound before anything is said, headers that come in time, an end that answers first."""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pneumoscope.errors import UsageError

#: Seconds for the headers of a request; for the next request of a connection; for requests at the end.
HEADERS_TIMEOUT, KEEP_ALIVE, GRACE = 10.0, 5, 9
#: Seconds that an answer may lie unread; that a client may go on sending after its answer.
UNREAD_TIMEOUT, LINGER = 30.0, 2.0
#: Clients at a time; each is an open file.
MAX_CONNECTIONS, BACKLOG = 500, 100


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on headers which do not come: uvicorn waits for them without end."""

    _waiting: asyncio.TimerHandle | None = None
    _ending = _shutting = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        super().connection_made(_Lingering(transport, self))
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        client = transport.get_extra_info("socket")
        if client is not None:
            # asyncio does this for sockets of protocol TCP alone, and create_server leaves the protocol open; without
            # it the body of an answer waits until the client has acknowledged the head, up to 40 ms.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # a client that takes nothing more is let go
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * UNREAD_TIMEOUT))
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Bytes have come: whole headers, or a part of them."""
        if self._ending:
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_headers()
        else:
            self._expect_nothing()

    def end(self, transport: asyncio.Transport) -> None:
        """Close; while a client still sends what is not read, let it read its answer first (RFC 9112, section 9.6)."""
        self._expect_nothing()
        if (
            self.conn.their_state not in (h11.SEND_BODY, h11.ERROR)
            or self._ending
            or self._shutting
            or transport.is_closing()
        ):
            transport.close()
            return
        self._ending = True  # what still comes is dropped
        transport.write_eof()
        self.loop.call_later(LINGER, transport.abort)

    def shutdown(self) -> None:
        """The service ends: nothing is waited for once the answer is out."""
        self._shutting = True
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer is on its way."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEADERS_TIMEOUT, self._hang_up)

    def _expect_nothing(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _hang_up(self) -> None:
        self._waiting = None
        answering = self.cycle is not None and not self.cycle.response_complete
        if self.conn.their_state is h11.IDLE and not answering and not self.transport.is_closing():
            self.transport.close()


class _Lingering:
    """A transport whose ``close`` is the protocol's to decide."""

    def __init__(self, transport: asyncio.Transport, protocol: HeaderTimeoutProtocol) -> None:
        self._transport, self._protocol = transport, protocol

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._protocol.end(self._transport)


def run(app: ASGIApp, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, then answer what was accepted, for at most :data:`GRACE` seconds.

    Args:
        app: the service.
        host: address or name to listen on.
        port: 0 for a free one.
        ready: told the address once clients can connect.

    Raises:
        UsageError: the address is taken or not of this machine.
    """
    server = Server(app, host, port, ready)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended in order, and passes the signal on
        server.run()


class Server(uvicorn.Server):
    """uvicorn on a socket that is bound at once; see :func:`run`."""

    def __init__(self, app: ASGIApp, host: str, port: int, ready: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            app,
            http=HeaderTimeoutProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            backlog=BACKLOG,
        )
        super().__init__(config)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            reason = os.strerror(error.errno) if (error.errno or 0) > 0 else error.strerror  # below: of a name
            raise UsageError(
                f"expected to listen on {host} port {port}, the system says {reason}: choose another --port or --host"
            ) from None
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        self.address, self._ready = f"http://{shown}:{self._listener.getsockname()[1]}", ready

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Until a signal, or ``should_exit``."""
        with self._listener:
            super().run(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that clients can connect."""
        await super().startup(sockets)
        if self.started:
            self._ready(self.address)
