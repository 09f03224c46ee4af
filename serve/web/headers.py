"""Response headers that keep a browser from misusing the page, and refusals in words."""

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that do not know `frame-ancestors`
    "content-security-policy": "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


class SecurityHeaders:
    """Adds `HEADERS` to every HTTP response. Plain ASGI: streams are passed on as they come."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # websockets, and the start and end of the server
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
    """Answers a request with the reason why it is refused: to programs as JSON, else as text."""
    reason = reason[:1].upper() + reason[1:]
    response: Response = PlainTextResponse(reason, status)
    if "/gradio_api/" in scope["path"]:
        response = JSONResponse({"detail": reason}, status)
    await response(scope, receive, send)
