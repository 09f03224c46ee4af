"""What one request may ask of the server: which routes, how many bytes, for how long."""

import asyncio
import re
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gensynth.errors import OutputError
from gensynth_serve.web.folder import PrivateFolder
from gensynth_serve.web.headers import refuse
from gensynth_serve.web.uploads import NoRoomError, UploadSpace

API = "/gradio_api"
UPLOAD = f"{API}/upload"
MAX_BODY = 1_000_000  # bytes of JSON; the largest order has a tenth
MAX_FILE = 20_000_000  # bytes of one upload, a picture
MAX_UPLOAD = MAX_FILE + 100_000  # the form around the file
BODY_SECONDS = 120.0  # a picture of 20 MB at 1.3 Mbit/s

# What the page and gradio's clients use. Gradio has more: routes that fetch what is on the web,
# write files on a GET, edit the program or run what nobody meant to offer.
ROUTES = re.compile(
    r"/|/healthz|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json"
    r"|/(assets|static|svelte)/.+"
    rf"|{API}/(info|app_id|user|login_check|token|startup-events|theme\.css|cancel|reset"
    r"|upload|upload_progress|heartbeat/[^/]+|queue/(join|data|status)"
    r"|run/[^/]+|call/(v2/)?[^/]+(/[^/]+)?)/?"
    rf"|{API}/file=/.+",
    re.DOTALL,
)


class Limits:
    """Keeps requests to the routes that are offered and to what they need.

    Args:
        app: what answers the requests.
        folder: made anew before an upload if a cleaner took it.
    """

    def __init__(self, app: ASGIApp, folder: PrivateFolder):
        self.app, self.folder = app, folder
        self.uploads = UploadSpace(folder)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not ROUTES.fullmatch(path or "/"):
            await refuse(scope, receive, send, 404, "there is nothing here.")
            return
        upload = path.rstrip("/") == UPLOAD
        most = MAX_UPLOAD if upload else MAX_BODY
        size = _content_length(scope)
        if size is not None and size > most:
            await refuse(scope, receive, send, 413, _too_large(most))
            return
        limited = Body(receive, most)
        if upload:
            await self._upload(scope, limited, send, most if size is None else size)
        else:
            await self.app(scope, limited, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send, size: int) -> None:
        try:
            self.folder.ensure()
            with self.uploads.room_for(size):
                await self.app(scope, receive, send)
        except NoRoomError as error:
            await refuse(scope, receive, send, 503, str(error))
        except OutputError as error:
            await refuse(scope, receive, send, 507, str(error))


class Body:
    """Passes the body of a request on, up to a number of bytes and seconds."""

    def __init__(self, receive: Receive, most: int):
        self.receive, self.most = receive, most
        self.received = 0
        self.complete = False
        self.deadline = time.monotonic() + BODY_SECONDS

    async def __call__(self) -> Message:
        if self.complete:  # what comes now is the end of the connection, whenever that is
            return await self.receive()
        try:
            left = self.deadline - time.monotonic()
            message = await asyncio.wait_for(self.receive(), max(left, 0))
        except TimeoutError as error:
            seconds = f"{BODY_SECONDS:g} seconds"
            raise HTTPException(408, f"The request did not arrive within {seconds}.") from error
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            if self.received > self.most:
                raise HTTPException(413, _too_large(self.most))
            self.complete = not message.get("more_body", False)
        return message


def _content_length(scope: Scope) -> int | None:
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _too_large(most: int) -> str:
    return f"The request is larger than {most // 1_000_000} MB."
