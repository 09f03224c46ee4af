import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from gensynth.errors import CorruptError, InputError, OutputError, RefusedError
from gensynth.metrics.extractors.weights import (
    PublishedFile,
    fetch,
    find_weights,
    read_tensors,
)
from gensynth.system.disk import cache_folder

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAMES = ("one-name.pth", "other-name.pth")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            return self.send_error(404)
        body = {"/whole": CONTENT, "/short": CONTENT[:70000], "/other": CONTENT[::-1]}[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """`published(path)`: the file as that path of the server has it; the caches are empty."""
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    server.asked.clear()
    address = f"http://127.0.0.1:{server.server_port}"
    return lambda path="/whole": PublishedFile(NAMES, address + path, SHA256)


def test_looked_for_in_order(published, server, tmp_path):
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    places = [
        tmp_path / "mine.pth",
        *(f / n for f in (cache_folder("weights"), hub) for n in NAMES),
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENT)
    assert find_weights(published(), places[0]) == (places[0], SHA256)
    for place in places[1:]:
        assert find_weights(published(), download=True) == (place, SHA256)
        place.unlink()
    assert server.asked == []


def test_nothing_is_fetched_unasked(published, server):
    with pytest.raises(InputError, match=r"one-name.pth is neither in .*weights nor in .*put it"):
        find_weights(published())
    assert server.asked == []


def test_fetched_once(published, server):
    path, digest = find_weights(published(), download=True)
    assert path == cache_folder("weights") / NAMES[0] and digest == SHA256
    assert path.read_bytes() == CONTENT
    assert [file.name for file in cache_folder("weights").iterdir()] == [NAMES[0]]
    find_weights(published(), download=True)
    assert server.asked == ["/whole"]


@pytest.mark.parametrize(
    "path, error, message",
    [
        ("/short", InputError, "after 70000 of 1280000 bytes"),
        ("/other", CorruptError, "is not the published file: its SHA-256 is "),
        ("/missing", InputError, "404"),
    ],
)
def test_a_bad_download_leaves_nothing(published, path, error, message):
    with pytest.raises(error, match=message) as caught:
        find_weights(published(path), download=True)
    assert str(cache_folder("weights") / NAMES[0]) in str(caught.value), (
        "says where to put it by hand"
    )
    assert list(cache_folder("weights").iterdir()) == []


def test_no_network(published, tmp_path):
    nobody = published()._replace(url="http://127.0.0.1:9/file")
    with pytest.raises(InputError, match=r"cannot download .*put it at"):
        find_weights(nobody, download=True)


def test_a_partial_file_is_never_used(published, server):
    """What a killed download left is neither found nor continued."""
    cache_folder("weights").mkdir(parents=True)
    left = cache_folder("weights") / f".{NAMES[0]}.1.part"
    left.write_bytes(CONTENT[:1000])
    path, _ = find_weights(published(), download=True)
    assert path.read_bytes() == CONTENT and server.asked == ["/whole"]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[::-1]], ids=["cut off", "another"])
def test_a_damaged_file_in_a_cache_is_named(published, content):
    cache_folder("weights").mkdir(parents=True)
    (cache_folder("weights") / NAMES[1]).write_bytes(content)
    with pytest.raises(CorruptError, match=r"other-name.pth is not the published file.*Delete it"):
        find_weights(published(), download=True)


def test_a_given_file_may_be_another(published, tmp_path):
    (tmp_path / "mine").write_bytes(b"other")
    digest = hashlib.sha256(b"other").hexdigest()
    assert find_weights(published(), tmp_path / "mine") == (tmp_path / "mine", digest)
    with pytest.raises(InputError, match="there is no weights file"):
        find_weights(published(), tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written(published, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        fetch(published().url, tmp_path / "file" / "weights.pth", SHA256)


class Code:
    def __reduce__(self):
        return print, ("this must not run",)


def test_only_tensors_of_the_right_shape_are_read(tmp_path, capsys):
    shapes = {"a": torch.Size([2, 3]), "b": torch.Size([4])}
    right = {"a": torch.ones(2, 3), "b": torch.arange(4.0).half(), "more": torch.ones(1)}
    torch.save(right, tmp_path / "right")
    tensors = read_tensors(tmp_path / "right", shapes)
    assert list(tensors) == ["a", "b"] and tensors["b"].dtype == torch.float32
    torch.save({**right, "b": torch.ones(5)}, tmp_path / "shape")
    torch.save({"a": right["a"]}, tmp_path / "name")
    torch.save([right["a"]], tmp_path / "list")
    torch.save({"a": Code()}, tmp_path / "code")
    (tmp_path / "cut off").write_bytes((tmp_path / "right").read_bytes()[:500])
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "empty").write_bytes(b"")
    expected = {
        "shape": r"under b there is \[5\], not \[4\]",
        "name": r"under b there is nothing, not \[4\]",
        "list": r"under a there is nothing",
        **dict.fromkeys(
            ("cut off", "text", "empty"),
            r"/[a-z ]+ is damaged or not a file of torch\.save\. Fetch it again\.$",
        ),
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            read_tensors(tmp_path / name, shapes)
    message = r"code is a pickle that needs \S*print, not only tensors, and [^.]* run code\.$"
    with pytest.raises(RefusedError, match=message):
        read_tensors(tmp_path / "code", shapes)
    assert "must not run" not in capsys.readouterr().out
