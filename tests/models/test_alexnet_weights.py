"""AlexNet's weights from a file or a server, the check of their hash, and errors for wrong files."""

from __future__ import annotations

import hashlib
import http.server
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.models.networks import alexnet_weights as module
from nsdflow.models.networks.alexnet_weights import ALEXNET_URL, load_alexnet_weights

SMALL = {"features.0": (2, 3, 5, 5), "classifier.6": (4, 2)}


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network with keys of the same kind; the real file has 244 MB."""
    monkeypatch.setattr(module, "ALEXNET_SHAPES", SMALL)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {
        f"{name}.{kind}": torch.randn(size)
        for name, shape in SMALL.items()
        for kind, size in (("weight", shape), ("bias", shape[:1]))
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An HTTP server of this machine and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", folder
        running.shutdown()
        thread.join()


def publish(folder: Path, state: dict[str, torch.Tensor]) -> str:
    """Save under a name that carries its hash, as torchvision does."""
    torch.save(state, folder / "unnamed")
    digest = hashlib.sha256((folder / "unnamed").read_bytes()).hexdigest()
    return (folder / "unnamed").rename(folder / f"alexnet-owt-{digest[:8]}.pth").name


def test_local_file(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state | {"epoch": torch.zeros(1)}, tmp_path / "mine.pth")  # tensors that are not AlexNet's are left out
    loaded = load_alexnet_weights(tmp_path / "mine.pth")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_download_once(server: tuple[str, Path], tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    url, folder = server
    name = publish(folder, state)
    cache = tmp_path / "cache" / "deeper"
    load_alexnet_weights(cache=cache, url=f"{url}/{name}")
    (folder / name).unlink()
    loaded = load_alexnet_weights(cache=cache, url=f"{url}/{name}")
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert [file.name for file in cache.iterdir()] == [name]
    content = bytearray((cache / name).read_bytes())
    content[len(content) // 2] ^= 1
    (cache / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"{name}: SHA-256 .* does not match its name; remove it"):
        load_alexnet_weights(cache=cache, url=f"{url}/{name}")


def test_wrong_hash_leaves_nothing(server: tuple[str, Path], tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    url, folder = server
    (folder / publish(folder, state)).rename(folder / "alexnet-owt-01234567.pth")
    with pytest.raises(SourceError, match="SHA-256"):
        load_alexnet_weights(cache=tmp_path / "cache", url=f"{url}/alexnet-owt-01234567.pth")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/alexnet-owt-01234567.pth", "{server}/alexnet-owt-01234567.pth"])
def test_offline_says_what_to_do(server: tuple[str, Path], tmp_path: Path, url: str) -> None:
    with pytest.raises(MissingDataError, match=r"cannot be downloaded .* prefilter: gabor"):
        load_alexnet_weights(cache=tmp_path, url=url.format(server=server[0]))


def test_neither_file_nor_cache() -> None:
    with pytest.raises(MissingDataError, match=ALEXNET_URL):
        load_alexnet_weights()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"no such file.*alexnet-owt"):
        load_alexnet_weights(tmp_path / "absent.pth")


def test_file_of_another_network(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state | {"features.0.weight": torch.zeros(2, 3, 7, 7)}, tmp_path / "other.pth")
    with pytest.raises(SourceError, match=r"features.0.weight is of shape \(2, 3, 7, 7\)"):
        load_alexnet_weights(tmp_path / "other.pth")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(SourceError, match=r"features.0.weight is missing"):
        load_alexnet_weights(tmp_path / "empty.pth")


class Evil:
    """Unpickling would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("content", ["text", "more text", "pickle", "torch"])
def test_not_a_file_of_tensors(tmp_path: Path, content: str) -> None:
    file, trace = tmp_path / "bad.pth", tmp_path / "trace"
    if content == "torch":
        torch.save({"features.0.weight": Evil(trace)}, file)
    else:
        evil = pickle.dumps(Evil(trace), protocol=2)
        file.write_bytes({"text": b"<html>404</html>", "more text": b"hello", "pickle": evil}[content])
    with pytest.raises(SourceError, match=r"bad\.pth: (refused, it is )?not a (torch file|file of tensors)"):
        load_alexnet_weights(file)
    assert not trace.exists()
