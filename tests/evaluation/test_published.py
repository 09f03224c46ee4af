import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.evaluation.references import published
from gensynth.evaluation.references.published import (
    PUBLISHED,
    Batch,
    check_published,
    published_file,
)

CONTENT = b"statistics" * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        cut = self.path.startswith("/cut/")
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:50] if cut else CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A server with one file, known as "batch", "cut" and "other", and the folder it goes to."""
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    base, digest = f"http://127.0.0.1:{server.server_port}", hashlib.sha256(CONTENT).hexdigest()
    batches = {
        "batch": Batch(f"{base}/batch.npz", digest),
        "cut": Batch(f"{base}/cut/cut.npz", digest),
        "other": Batch(f"{base}/other.npz", "0" * 64),
        "unknown": Batch(f"{base}/unknown.npz"),
    }
    monkeypatch.setattr(published, "PUBLISHED", batches)
    yield tmp_path / "references"
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once_and_only_when_asked(place):
    with pytest.raises(InputError, match=r"batch is not here.*--published batch --download"):
        published_file("batch")
    path = published_file("batch", download=True)
    assert path == place / "batch.npz" and path.read_bytes() == CONTENT
    assert published_file("batch") == path
    assert check_published("batch", path, hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize(("name", "error"), [("cut", InputError), ("other", CorruptError)])
def test_a_cut_or_wrong_download_leaves_nothing(place, name, error):
    with pytest.raises(error, match=f"{name}.npz"):
        published_file(name, download=True)
    assert not list(place.iterdir())


def test_what_cannot_be_checked_is_not_fetched(place):
    with pytest.raises(UsageError, match=r"no checksum of unknown.*Place http\S+ at .*unknown.npz"):
        published_file("unknown", download=True)
    with pytest.raises(InputError, match=r"Place http\S+ at .*unknown.npz\.$"):
        published_file("unknown")
    place.mkdir()
    (place / "unknown.npz").write_bytes(CONTENT)
    assert published_file("unknown", download=True) == place / "unknown.npz"
    assert not check_published("unknown", place / "unknown.npz", "0" * 64)


def test_no_network(place, monkeypatch):
    url = "http://127.0.0.1:1/gone.npz"
    monkeypatch.setitem(published.PUBLISHED, "gone", Batch(url, "0" * 64))
    with pytest.raises(InputError, match=rf"cannot download {url}.*put it at {place}/gone\.npz"):
        published_file("gone", download=True)


def test_another_file_is_not_taken_for_it(tmp_path):
    with pytest.raises(CorruptError, match="is not the published imagenet256"):
        check_published("imagenet256", tmp_path / "a.npz", "0" * 64)


def test_every_published_reference_has_a_place_of_its_own():
    assert list(PUBLISHED) == ["imagenet64", "imagenet128", "imagenet256", "imagenet512"]
    assert len({batch.file for batch in PUBLISHED.values()}) == len(PUBLISHED)
    for name, batch in PUBLISHED.items():
        assert batch.url.startswith("https://") and f"/{name[8:]}/" in batch.url
    with pytest.raises(UsageError, match="no published reference 'imagenet'; there are imagenet64"):
        published_file("imagenet")
