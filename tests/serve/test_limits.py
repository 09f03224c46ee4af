"""Requests that ask too much: of bytes, of seconds, of space, of connections."""

import asyncio
import os
import tempfile
from pathlib import Path

import httpx
import pytest
import uvicorn

from gensynth_serve.web import limits, uploads
from gensynth_serve.web.connections import limited_protocol, most_connections
from gensynth_serve.web.folder import PrivateFolder
from gensynth_serve.web.limits import MAX_BODY, MAX_UPLOAD, ROUTES, UPLOAD, Limits
from gensynth_serve.web.uploads import NoRoomError, UploadSpace

CALL = "/gradio_api/call/generate"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return PrivateFolder()


async def count(scope, receive, send):
    """Reads the whole body, as an app does, and answers with its size."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(folder, method, path, **request):
    from starlette.middleware.exceptions import ExceptionMiddleware

    async def send_it():
        app = Limits(ExceptionMiddleware(count), folder)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://x"
        ) as client:
            return await client.request(method, path, **request)

    return asyncio.run(send_it())


async def pieces(number, size=100_000):
    for _ in range(number):
        yield bytes(size)


@pytest.mark.parametrize(("path", "most"), [(CALL, MAX_BODY), (UPLOAD, MAX_UPLOAD)])
def test_bodies_are_limited_with_and_without_a_length(folder, path, most):
    assert ask(folder, "POST", path, content=bytes(most)).text == str(most)
    answer = ask(folder, "POST", path, content=bytes(most + 1))
    assert answer.status_code == 413
    assert answer.json()["detail"] == f"The request is larger than {most // 1_000_000} MB."
    assert ask(folder, "POST", path, content=pieces(most // 100_000 + 1)).status_code == 413


def test_a_body_has_to_arrive_in_time(folder, monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)

    body = limits.Body(None, 10)

    async def first_and_never():
        if body.received:
            await asyncio.sleep(30)
        return {"type": "http.request", "body": b"a", "more_body": True}

    async def read():
        body.receive = first_and_never
        await body()
        with pytest.raises(limits.HTTPException) as caught:
            await body()
        return caught.value

    error = asyncio.run(read())
    assert error.status_code == 408 and "0.05 seconds" in error.detail


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/config", "/healthz", "/assets/index.js", "/theme.css", CALL, UPLOAD),
        *("/gradio_api/queue/join", "/gradio_api/heartbeat/abc", "/gradio_api/file=/tmp/a/b.png"),
    ],
)
def test_what_the_page_uses_is_there(path):
    assert ROUTES.fullmatch(path)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1:22/",  # the server would fetch it
        "/gradio_api/file=https://example.com/a.png",
        "/gradio_api/proxy=https://example.com/",
        "/gradio_api/deep_link",  # writes a file on a GET
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit",
        "/gradio_api/openapi.json",
        "/login",
        "/nothing",
    ],
)
def test_what_nobody_meant_to_offer_is_not(folder, path):
    assert ask(folder, "GET", path).status_code == 404


def stored(folder, name, size, age):
    """An upload as Gradio leaves it."""
    path = folder.path / name
    path.mkdir()
    (path / "a.png").write_bytes(bytes(size))
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_oldest_uploads_make_room(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_SPACE", 1000)
    old, new = stored(folder, "old", 400, age=9), stored(folder, "new", 400, age=1)
    picture = folder.pictures / "kept"
    picture.mkdir()
    space = UploadSpace(folder)
    with space.room_for(200):
        assert old.exists() and new.exists()
    with space.room_for(300):
        assert not old.exists() and new.exists()
    assert picture.exists()


def test_what_arrives_at_once_is_limited(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_SPACE", 1000)
    space = UploadSpace(folder)
    with space.room_for(600):
        with pytest.raises(NoRoomError, match="Try again in a minute"), space.room_for(500):
            pass
        with space.room_for(400):
            pass
    with space.room_for(1000):
        pass


def test_uploads_that_were_cut_off_are_deleted(folder):
    space = UploadSpace(folder)
    with space.room_for(10):
        part = folder.path / "tmpabc"
        part.write_bytes(b"x")
        with space.room_for(10):
            pass
        assert part.exists()  # the first is still arriving
    assert not part.exists()


def test_many_small_uploads_are_limited_too(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_FILES", 3)
    paths = [stored(folder, f"u{age}", 1, age) for age in range(5)]
    with UploadSpace(folder).room_for(1):
        assert [path.exists() for path in paths] == [True] * 3 + [False] * 2


def test_no_place_for_uploads_is_said(folder):
    Path(folder.path).rename(folder.path.with_name("gone"))
    folder.path.write_text("something else")
    answer = ask(folder, "POST", UPLOAD, content=b"x")
    assert answer.status_code == 507
    assert "Not a directory" in answer.json()["detail"] or "File exists" in answer.json()["detail"]


def test_connections_leave_room_for_other_files(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    assert most_connections() == 768
    monkeypatch.setattr("resource.getrlimit", lambda _: (100_000, 100_000))
    assert most_connections() == 1000


def with_server(visit, **options):
    """What `visit(port)` returns, beside a server that answers at once, but /slow never."""

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await asyncio.sleep(30)
        await count(scope, receive, send)

    async def both():
        config = uvicorn.Config(
            app, port=0, http=limited_protocol(**options), log_level="critical", lifespan="off"
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            return await visit(server.servers[0].sockets[0].getsockname()[1])
        finally:
            server.should_exit = server.force_exit = True
            await running

    return asyncio.run(both())


async def connect(port, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    await writer.drain()
    return reader, writer


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_head_that_never_ends_is_not_waited_for():
    async def visit(port):
        silent, _kept = await connect(port, b"")
        unfinished, writer = await connect(port, b"GET / HTTP/1.1\r\nHost: ")
        slow, _kept_too = await connect(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.1)
            writer.write(b"x")
        ended = [await asyncio.wait_for(reader.read(), 30) for reader in (silent, unfinished)]
        return ended, slow.at_eof()

    async def safely(port):
        try:
            return await visit(port)
        except ConnectionError:  # how an aborted connection may show itself
            return [b"", b""], False

    assert with_server(safely, most=100, head_seconds=0.3) == ([b"", b""], False)


def test_unfinished_requests_do_not_keep_visitors_out():
    async def visit(port):
        held = [await connect(port, b"GET / HTTP/1.1\r\nX: ") for _ in range(12)]
        working, _kept = await connect(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = []
        for _ in range(8):
            held.append(await connect(port, GET))
            answers.append(await asyncio.wait_for(held[-1][0].readline(), 30))
        return answers, working.at_eof()

    answers, ended = with_server(visit, most=5)
    assert answers == [b"HTTP/1.1 200 OK\r\n"] * 8
    assert not ended  # a request that is being answered is never dropped for another
