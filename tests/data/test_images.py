from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from replication import data
from replication.data import images as module

# class → RGB of its images; the blue of image n is n
COLOURS = {"cat": (200, 10), "ant": (10, 200), "bee": (100, 100)}
COUNTS = {"train": 5, "test": 2}


def test_digits() -> None:
    digits = data.digits()
    assert digits.name == "digits"
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.dtype == np.float32
    assert digits.labels.dtype == np.int64
    assert (digits.images.min(), digits.images.max()) == (0, 1)
    assert set(np.unique(digits.images * 16)) == set(range(17))
    assert list(np.bincount(digits.labels)) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.classes == tuple("0123456789")
    assert len(digits) == 1797


def test_digits_are_the_same_everywhere() -> None:
    expected = "8b3b6ae90863430bdef06a3f7d1ec2f6a905a53d3375655b18cf63780ad98772"
    assert data.digits().checksum == data.checksum("digits") == expected


def test_images_must_fit_their_labels() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3, 4, 4\) and \(3,\)"):
        data.Images("x", np.zeros((2, 3, 4, 4), np.uint8), np.zeros(3, np.int64), ("a",), "")
    with pytest.raises(ValueError, match=r"got \(2, 16\) and \(2,\)"):
        data.Images("x", np.zeros((2, 16), np.uint8), np.zeros(2, np.int64), ("a",), "")


def make_tree(root: Path) -> Path:
    for split, count in COUNTS.items():
        for name, (red, green) in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (32, 32), (red, green, 40 * number))
                image.putpixel((31, 0), (0, 0, 0))  # top right: tells rows from columns
                image.save(folder / f"{number:04}.jpg", quality=95, subsampling=0)
    return root


@pytest.fixture
def tree(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small image folder in the place of CIFAR-10's, in $REPLICATION_DATA."""
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "data"))
    return make_tree(tmp_path / "data" / "cifar10")


@pytest.fixture
def packed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, packed."""
    path = tree.parent / "cifar10-jpeg.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for name in ("test", "train"):  # not the order in which the images are to come
            tar.add(tree / name, arcname=name)
    shutil.rmtree(tree)
    monkeypatch.setitem(module.CIFAR10_SHA256, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def same(one: data.Images, other: data.Images) -> bool:
    return bool(
        np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
        and one.classes == other.classes
        and one.name == other.name
    )


def test_tree(tree: Path) -> None:
    train, test = data.cifar10()
    assert train.name == test.name == "CIFAR-10 (JPEG 75)"
    assert train.classes == ("ant", "bee", "cat")
    assert train.images.shape == (15, 3, 32, 32)
    assert test.images.shape == (6, 3, 32, 32)
    assert train.images.dtype == np.uint8
    assert list(train.labels) == [0, 1, 2] * 5
    assert train.labels.dtype == np.int64
    middle = train.images[:, :, 16, 16].astype(int)
    expected = [(*COLOURS[train.classes[i % 3]], 40 * (i // 3)) for i in range(15)]
    assert np.abs(middle - expected).max() <= 4
    assert (train.images[:, 0, 0, 31] < train.images[:, 0, 31, 0]).all()


def test_a_limit_gives_the_first_images(tree: Path) -> None:
    some = data.cifar10(limit=4)
    train, test = data.cifar10()
    cached = data.cifar10(limit=4)
    for few in (some, cached):
        assert np.array_equal(few[0].images, train.images[:4])
        assert np.array_equal(few[0].labels, train.labels[:4])
        assert np.array_equal(few[1].images, test.images[:4])
        assert few[0].checksum == train.checksum
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=f"limit: must be an integer of at least 1, got {wrong}"):
            data.cifar10(limit=wrong)


def test_a_limited_read_decodes_no_more(packed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = Image.open

    def counted(file: Any) -> Image.Image:
        opened.append(file)
        return real(file)

    monkeypatch.setattr(Image, "open", counted)
    data.cifar10(limit=3)
    assert len(opened) == 6
    assert not list(cache.glob("*.npz"))


def test_archive_holds_what_the_tree_holds(tree: Path, request: pytest.FixtureRequest) -> None:
    from_tree = data.cifar10()
    request.getfixturevalue("packed")
    from_archive = data.cifar10()
    assert same(from_tree[0], from_archive[0])
    assert same(from_tree[1], from_archive[1])
    assert from_archive[0].checksum == data.checksum("cifar10") != from_tree[0].checksum
    assert not tree.exists()  # never unpacked


def test_cache_is_used(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.cifar10()
    monkeypatch.setattr(Image, "open", lambda file: pytest.fail("decoded again"))
    again = data.cifar10()
    assert same(first[0], again[0])
    assert same(first[1], again[1])


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_damaged_cache_is_made_again(packed: Path, cache: Path, damage: str) -> None:
    first = data.cifar10()
    (path,) = cache.glob("cifar10-*.npz")
    content = path.read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    path.write_bytes({"cut": content[:half], "bit": flipped, "empty": b""}[damage])
    again = data.cifar10()
    assert same(first[0], again[0])
    assert same(first[1], again[1])
    with np.load(path) as stored:
        assert np.array_equal(stored["train_images"], first[0].images)


def test_changed_tree_is_read_again(tree: Path) -> None:
    before = data.checksum("cifar10")
    data.cifar10()
    path = tree / "train" / "ant" / "0000.jpg"
    Image.new("RGB", (32, 32), (0, 0, 255)).save(path)
    train, _ = data.cifar10()
    assert train.checksum != before
    assert train.images[0, 2, 16, 16] > 240


def test_wrong_images_are_named(tree: Path) -> None:
    Image.new("RGB", (28, 28)).save(tree / "test" / "bee" / "0001.jpg")
    with pytest.raises(ValueError, match=r"test/bee/0001\.jpg has \(28, 28\) pixels"):
        data.cifar10()
    shutil.rmtree(tree / "test" / "bee")
    with pytest.raises(data.DataNotFound, match=r"train with 3 classes and test with 2 classes, .*alone has bee"):
        data.cifar10()
    (tree / "test" / "ant").rename(tree / "test" / "Ant")
    shutil.rmtree(tree / "train" / "bee")
    with pytest.raises(data.DataNotFound, match=r"2 classes and test with 2 classes, of which one alone has Ant, ant$"):
        data.cifar10()


def test_damaged_archive_is_refused(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes() + b"!")
    found = hashlib.sha256(packed.read_bytes()).hexdigest()
    wanted = module.CIFAR10_SHA256[packed.name]
    with pytest.raises(data.ChecksumMismatch, match=f"{found}, {wanted} was expected. Delete it"):
        data.cifar10()
    with pytest.raises(data.ChecksumMismatch):
        data.checksum("cifar10")


def pickled(content: dict[str, Any]) -> bytes:
    return pickle.dumps(content, protocol=2)


@pytest.fixture
def original(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder of the original's form, three images a batch, in $REPLICATION_DATA."""
    from replication.compat import torchvision

    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    files = {"batches.meta": pickled({"label_names": ["ant", "bee"]})}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = random.integers(0, 256, (3, 3072), dtype=np.uint8)
        files[name] = pickled({"data": pixels, "labels": [0, 1, 1]})
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[name, md5[name]] for name, _ in cifar.train_list])
    monkeypatch.setattr(cifar, "test_list", [[name, md5[name]] for name, _ in cifar.test_list])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5["batches.meta"]})
    monkeypatch.setenv("REPLICATION_DATA", str(folder.parent))
    return folder


def pack_original(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder.parent / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    shutil.rmtree(folder)
    monkeypatch.setitem(module.CIFAR10_SHA256, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_original_folder(original: Path, cache: Path) -> None:
    train, test = data.cifar10()
    assert train.name == "CIFAR-10"
    assert train.classes == ("ant", "bee")
    assert train.images.shape == (15, 3, 32, 32)
    assert train.images.flags.c_contiguous
    assert list(train.labels) == [0, 1, 1] * 5
    # the file holds each image as 1024 reds, greens and blues, row by row
    stored = pickle.loads((original / "test_batch").read_bytes())["data"]
    assert np.array_equal(test.images, stored.reshape(3, 3, 32, 32))
    few, _ = data.cifar10(limit=4)
    assert np.array_equal(few.images, train.images[:4])
    assert list(few.labels) == [0, 1, 1, 0]
    assert train.checksum == data.checksum("cifar10")
    assert not cache.exists()


def test_original_archive(original: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_folder = data.cifar10()
    path = pack_original(original, monkeypatch)
    for _ in range(2):  # read, then from the cache
        from_archive = data.cifar10()
        assert same(from_folder[0], from_archive[0])
        assert same(from_folder[1], from_archive[1])
    assert from_archive[0].checksum == module.CIFAR10_SHA256[path.name]
    assert len(list(cache.glob("cifar10-*.npz"))) == 1
    assert not original.exists()


def test_damaged_original_is_refused(original: Path) -> None:
    with (original / "data_batch_3").open("ab") as file:
        file.write(b"!")
    with pytest.raises(data.ChecksumMismatch, match="cifar-10-batches-py is damaged or incomplete"):
        data.cifar10()


def test_the_original_is_preferred(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(original.parent / "cifar10")
    assert data.cifar10()[0].name == "CIFAR-10"
    pack_original(original, monkeypatch)
    assert data.cifar10()[0].name == "CIFAR-10"
    (original.parent / "cifar-10-python.tar.gz").unlink()
    assert data.cifar10()[0].name == "CIFAR-10 (JPEG 75)"


def test_missing_data_are_explained(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(data.DataNotFound) as raised:
        data.cifar10()
    assert f"Looked in {cache} (the cache folder)" in str(raised.value)
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "mine"))
    with pytest.raises(data.DataNotFound) as raised:
        data.checksum("cifar10")
    message = str(raised.value)
    assert f"{tmp_path / 'mine'} ($REPLICATION_DATA) and {cache} (the cache folder)" in message
    for word in ("cifar-10-batches-py", "cifar10-jpeg.tar.xz", "download_cifar10", module.CIFAR10_URL):
        assert word in message


class Site(http.server.BaseHTTPRequestHandler):
    content = b""
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Site]]:
    """A web server on this machine in the place of the authors' site."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Site.content, Site.requests = b"the archive" * 1000, 0
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(module, "CIFAR10_URL", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
        digest = hashlib.sha256(Site.content).hexdigest()
        monkeypatch.setitem(module.CIFAR10_SHA256, "cifar-10-python.tar.gz", digest)
        yield Site
        server.shutdown()
        thread.join()


def test_download(site: type[Site], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = data.download_cifar10()
    assert path == cache / "cifar-10-python.tar.gz"
    assert path.read_bytes() == site.content
    assert data.download_cifar10() == path
    assert site.requests == 1
    assert data.checksum("cifar10") == hashlib.sha256(site.content).hexdigest()  # found where it was put
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "own"))
    assert data.download_cifar10().parent == tmp_path / "own"


def test_download_of_something_else(site: type[Site], cache: Path) -> None:
    site.content = b"<html>moved</html>"
    with pytest.raises(data.ChecksumMismatch, match=r"is not CIFAR-10: its SHA-256 should be [0-9a-f]{64}"):
        data.download_cifar10()
    assert not [path for path in cache.iterdir() if path.is_file()]


def test_download_without_a_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "CIFAR10_URL", "http://127.0.0.1:1/cifar-10-python.tar.gz")
    with pytest.raises(data.DataNotFound, match=r"could not be downloaded from .* set REPLICATION_DATA"):
        data.download_cifar10()


def test_the_real_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("REPLICATION_DATA"):
        pytest.skip("REPLICATION_DATA is not set")
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    try:
        train, test = data.cifar10(limit=2000)
    except data.DataNotFound as error:
        pytest.skip(str(error))
    assert train.classes == tuple("airplane automobile bird cat deer dog frog horse ship truck".split())  # noqa: SIM905
    assert train.images.shape == test.images.shape == (2000, 3, 32, 32)
    counts = np.bincount(train.labels, minlength=10)
    assert (counts == 200).all() if "JPEG" in train.name else counts.min() > 150
    # the published channel means of all training images; 2,000 of them come near
    assert np.abs(train.images.mean(axis=(0, 2, 3)) - [125.3, 123.0, 113.9]).max() < 4
    assert not np.array_equal(train.images, test.images)


def test_reading_does_not_import_torch() -> None:
    code = "import sys; from replication import data; data.digits(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("side", [0, -2, 1.5])
def test_a_side_that_is_no_number_of_pixels_is_refused(side: float) -> None:
    with pytest.raises(ValueError, match=f"side: must be an integer of at least 1, got {side}"):
        data.averaged(np.zeros((1, 1, 4, 4), np.uint8), side)  # type: ignore[arg-type]
