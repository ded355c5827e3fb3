"""The downloader, against a server of this machine."""
import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpt2.files import download
from gpt2.files.download import Source, fetch
from gpt2.files.errors import DataError

DATA = b"one\ntwo\n" * 9_000
SUM = hashlib.sha256(DATA).hexdigest()


def zipped(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"folder/{name}.txt", data)
    return packed.getvalue()


FILES = {"/data.txt": DATA, "/data.zip": zipped(data=DATA, more=b"more"),
         "/login.txt": b"Please log in.", "/other.zip": zipped(more=b"more"),
         "/no.zip": b"no archive"}


@pytest.fixture(scope="module")
def server():
    """(its address, the paths that were asked for)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            data = FILES.get(self.path.removesuffix(".torn"))
            self.send_response(200 if data else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            torn = self.path.endswith(".torn")
            self.wfile.write((data or b"")[:1000 if torn else None])

        def log_message(self, *_):
            pass
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}", asked
    served.shutdown()
    served.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "gpt2-book"


@pytest.mark.parametrize("place, member", [
    ("/data.txt", ""), ("/data.zip", "folder/data.txt")])
def test_fetched_once(server, cache, place, member):
    address, asked = server
    asked.clear()
    source = Source(address + place, SUM, member)
    path = fetch(source)
    assert path == source.path == cache / "data.txt"
    assert path.read_bytes() == DATA
    assert fetch(source) == path and asked == [place]       # from the cache
    assert [p.name for p in cache.iterdir()] == ["data.txt"]
    path.write_bytes(DATA[:-1])
    with pytest.raises(DataError, match="another SHA-256. If it is a file, "
                       "remove it"):
        fetch(source)
    path.unlink()
    assert fetch(source) == path


def test_under_another_name(server, cache):
    source = Source(server[0] + "/data.txt", SUM, name="plays.txt")
    assert fetch(source) == cache / "plays.txt"


@pytest.mark.parametrize("place, member, fault", [
    ("/login.txt", "", "14 bytes with another SHA-256"),
    ("/data.txt.torn", "", "could not be fetched"),
    ("/nothing.txt", "", "could not be fetched.*404"),
    ("/no.zip", "folder/data.txt", "could not be fetched"),
    ("/other.zip", "folder/data.txt", "could not be fetched")])
def test_refused(server, cache, place, member, fault):
    """The error says what to do by hand; nothing stays in the cache."""
    source = Source(server[0] + place, SUM, member)
    with pytest.raises(DataError, match=fault) as caught:
        fetch(source)
    words = str(caught.value)
    assert f"Get {source.url} yourself," in words
    assert (f" unpack {member}," in words) == bool(member)
    assert words.endswith(f"pass the path, or put it at {source.path}.")
    assert not list(cache.iterdir())


def test_no_network(cache):
    for url in ("http://127.0.0.1:1/data.txt", "no address"):
        with pytest.raises(DataError, match="could not be fetched"):
            fetch(Source(url, SUM))


def test_nothing_unknown_is_downloaded(server, cache, monkeypatch):
    monkeypatch.setattr(download, "download", None)
    with pytest.raises(DataError, match="no checksum of data.txt is known"):
        fetch(Source(server[0] + "/data.txt", None))
    assert not cache.exists()


def test_it_says_nothing(server, cache, capfd):
    fetch(Source(server[0] + "/data.zip", SUM, "folder/data.txt"))
    assert capfd.readouterr() == ("", "")
