"""The server under the application: it binds its socket first, limits slow clients, and answers before it stops.

It tells systemd when it is ready, that it is alive, and when it stops.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pneumoscope.errors import UsageError

#: Seconds: for the headers of a request; until the next request of a connection; for open requests when it stops.
HEADERS_TIMEOUT, KEEP_ALIVE, GRACE = 10.0, 5, 9
#: Seconds: that an answer may stay unread; that a client may continue to send after its answer.
UNREAD_TIMEOUT, LINGER = 30.0, 2.0
#: Clients at a time, and in the queue of the system; each is an open file.
MAX_CONNECTIONS, BACKLOG = 500, 100


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 with a time limit for headers; uvicorn has none."""

    _timer: asyncio.TimerHandle | None = None
    _lingering = _stopping = False

    def connection_made(  # type: ignore[override]  # uvicorn declares it like this: servers have full transports
        self, transport: asyncio.Transport
    ) -> None:
        """Handle a new client."""
        super().connection_made(_LingeringTransport(transport, self))  # type: ignore[arg-type]  # it passes all calls on
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        client = transport.get_extra_info("socket")
        if client is not None:
            # asyncio sets this for sockets whose protocol is TCP, but create_server does not name the protocol. Without
            # it, the body of an answer waits until the client has acknowledged the head, up to 40 ms.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # disconnect clients that stop reading
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * UNREAD_TIMEOUT))
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        if self._lingering:
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._start_timer()
        else:
            self._cancel_timer()

    def close(self, transport: asyncio.Transport) -> None:
        """Close the connection. A client that is still sending gets time to read its answer (RFC 9112, section 9.6)."""
        self._cancel_timer()
        if (
            self.conn.their_state not in (h11.SEND_BODY, h11.ERROR)
            or self._lingering
            or self._stopping
            or transport.is_closing()
        ):
            transport.close()
            return
        self._lingering = True  # what the client still sends is dropped
        transport.write_eof()
        self.loop.call_later(LINGER, transport.abort)

    def shutdown(self) -> None:
        """Stop with the service: close as soon as the answer is sent."""
        self._stopping = True
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, unless an answer is already on its way."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of a connection."""
        self._cancel_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEADERS_TIMEOUT, self._close_idle)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_idle(self) -> None:
        self._timer = None
        answering = self.cycle is not None and not self.cycle.response_complete
        if self.conn.their_state is h11.IDLE and not answering and not self.transport.is_closing():
            self.transport.close()


class _LingeringTransport:
    """A transport that leaves ``close`` to the protocol."""

    def __init__(self, transport: asyncio.Transport, protocol: HeaderTimeoutProtocol) -> None:
        self._transport, self._protocol = transport, protocol

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._protocol.close(self._transport)


def run(app: ASGIApp, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, then answer the accepted requests, for at most :data:`GRACE` seconds.

    Args:
        app: the service.
        host: address or name to listen on.
        port: 0 for a free one.
        ready: called with the address when clients can connect.

    Raises:
        UsageError: the address is in use, or does not belong to this machine.
    """
    server = Server(app, host, port, ready)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has stopped in order, and raises the signal again
        server.run()


class Server(uvicorn.Server):
    """uvicorn on a socket that is bound immediately; see :func:`run`."""

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
            number = error.errno or 0  # negative numbers are errors of name resolution
            reason = os.strerror(number) if number > 0 else error.strerror
            raise UsageError(
                f"expected to listen on {host} port {port}, the system says {reason}: choose another --port or --host"
            ) from None
        # The manager wants a sign of life within this time; half of it leaves room for a late one.
        self._watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        self._last_sign = time.monotonic()
        url_host = f"[{host}]" if family == socket.AF_INET6 else host
        self.address, self._ready = f"http://{url_host}:{self._listener.getsockname()[1]}", ready

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal, or ``should_exit``."""
        with self._listener:
            super().run(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report that clients can connect."""
        await super().startup(sockets)
        if self.started:
            self._ready(self.address)
            notify_manager("READY=1")

    async def on_tick(self, counter: int) -> bool:
        """Give the manager its sign of life; uvicorn calls this ten times a second."""
        if self._watchdog and time.monotonic() - self._last_sign >= self._watchdog:
            self._last_sign = time.monotonic()
            notify_manager("WATCHDOG=1")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the accepted requests, and stop."""
        notify_manager("STOPPING=1")
        await super().shutdown(sockets)


def notify_manager(state: str) -> None:
    """Tell the service manager a state, if it listens: sd_notify(3). Without a manager nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
