"""How a request finds its route: behind the path of a proxy, and ``HEAD`` wherever there is ``GET``."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Paths:
    """ASGI middleware that changes the path and the method of a request as the application knows them.

    Args:
        app: the application.
        root_path: path below which a proxy offers the service, such as ``/chest``; empty for none. The proxy may cut it
            off or pass it on. An application that mounts this one states the path itself.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, root_path = scope["path"], self.root_path or scope.get("root_path", "")
        if path != root_path and not path.startswith(f"{root_path}/"):
            path = root_path + path
        scope = {**scope, "path": path, "root_path": root_path}
        if scope["method"] == "HEAD":
            scope["method"], send = "GET", _without_body(send)
        await self.app(scope, receive, send)


def _without_body(send: Send) -> Send:
    """Send the head of an answer only. It keeps the length of the body, as RFC 9110 allows."""

    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head
