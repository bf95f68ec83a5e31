"""Images with class labels: scikit-learn's digits, which are on every machine, and CIFAR-10, which is looked for."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from replication.atomic import replacing
from replication.checks import whole
from replication.data.cache import made_once
from replication.places import (
    ChecksumMismatch,
    DataNotFound,
    cache_folder,
    data_places,
    file_sha256,
    looked,
    retrieve,
)

CIFAR10_URL: Final = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_ARCHIVE: Final = "cifar-10-python.tar.gz"
CIFAR10_BATCHES: Final = "cifar-10-batches-py"
CIFAR10_TREE: Final = "cifar10"
CIFAR10_TREE_ARCHIVE: Final = "cifar10-jpeg.tar.xz"
CIFAR10_SHA256: Final = {
    CIFAR10_ARCHIVE: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    CIFAR10_TREE_ARCHIVE: "d7c8ab843154fdaab3bb4e05ca9dd4750772019279e9963cd7325e2b0c4a5f01",
}
SPLITS: Final = ("train", "test")

#: What is read: arrays by name (`train_images`, `train_labels`, …), and the names of the classes.
_Loaded = tuple[dict[str, npt.NDArray[Any]], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Images:
    """Images with class labels.

    Attributes
    ----------
    name
        of the data set, as it is to stand beside every number measured on it.
    images
        (N, C, H, W); float32 in [0, 1], or uint8 in 0…255.
    labels
        int64 (N,), indices into `classes`.
    classes
        names of the classes.
    checksum
        SHA-256, in hexadecimal, of the source that the images were read from; a `limit` does not change it.
    """

    name: str
    images: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    checksum: str

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"images must be (N, C, H, W) and labels (N,), got {self.images.shape} and {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)


def digits() -> Images:
    """Handwritten digits of scikit-learn: 1,797 grey images of 8 × 8 pixels, ten classes.

    Returns
    -------
    Images
        float32 (1797, 1, 8, 8) in [0, 1]: the 17 grey levels divided by 16.

    Examples
    --------
    >>> digits().images.shape
    (1797, 1, 8, 8)
    """
    from sklearn.datasets import load_digits  # here: it takes a second to import, and nothing else needs it

    bunch = load_digits()
    images = (bunch.images / 16.0).astype("<f4")[:, np.newaxis]
    labels = bunch.target.astype("<i8")
    checksum = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Images("digits", images, labels, tuple(map(str, bunch.target_names)), checksum)


def cifar10(*, limit: int | None = None) -> tuple[Images, Images]:
    """CIFAR-10: 50,000 images for training and 10,000 for testing, ten classes.

    Looks in `$REPLICATION_DATA`, then in the cache folder, for these, in this order: `cifar-10-batches-py/` (as
    torchvision unpacks it), `cifar-10-python.tar.gz` (as its authors publish it), `cifar10/{train,test}/<class>/*.jpg`,
    and `cifar10-jpeg.tar.xz`, the same tree packed. The last two are a re-encoding as JPEG of quality 75, named
    "CIFAR-10 (JPEG 75)": numbers measured on it do not compare with numbers measured on the original. Images that had
    to be unpacked are cached.

    Parameters
    ----------
    limit
        take the first so many images of each split. They are as evenly spread over the classes as the original has
        them, exactly so for the JPEG images, which come in the order class 0, 1, …, 9, 0, 1, ….

    Returns
    -------
    tuple of Images
        training and test images: uint8 (N, 3, 32, 32), RGB.

    Raises
    ------
    DataNotFound
        if none of them is there.
    ChecksumMismatch
        if the one that was found is damaged.
    """
    if limit is not None:
        whole("limit", limit)
    form, path = _find()
    checksum = _source_checksum(path)
    arrays, classes = _load(form, path, limit, checksum)
    train, test = (
        Images(form.name, arrays[f"{split}_images"][:limit], arrays[f"{split}_labels"][:limit], classes, checksum)
        for split in SPLITS
    )
    return train, test


def averaged(images: npt.NDArray[Any], side: int, *, name: str = "side") -> npt.NDArray[np.float32]:
    """Average square blocks of pixels, uint8 (N, C, H, W), to images of a side, float32 (N, C, side, side) in [0, 255].

    Raises
    ------
    ValueError
        If the side does not divide that of the images; `name` is what the message calls it.

    Examples
    --------
    >>> averaged(np.array([[[[0, 4], [8, 13]]]], np.uint8), 1)
    array([[[[6.25]]]], dtype=float32)
    """
    n, channels, height, width = images.shape
    if height % whole(name, side) or width % side:
        raise ValueError(f"{name}: must divide that of the images, {height} × {width}, got {side}")
    blocks = images.reshape(n, channels, side, height // side, side, width // side)
    return np.asarray(blocks.mean(axis=(3, 5), dtype=np.float32))


def cifar10_checksum() -> str:
    """Checksum that `cifar10` would give its images.

    Raises
    ------
    DataNotFound, ChecksumMismatch
        as `cifar10` does.
    """
    _, path = _find()
    return _source_checksum(path)


def download_cifar10() -> Path:
    """Download the original CIFAR-10 (163 MB) from its authors' site and check it; `cifar10` then finds it.

    It goes to `$REPLICATION_DATA`, else to the cache folder.

    Returns
    -------
    pathlib.Path
        the archive. One that is there already and whole is not downloaded again.

    Raises
    ------
    DataNotFound
        if it cannot be downloaded.
    ChecksumMismatch
        if something else came.
    """
    return retrieve("CIFAR-10", CIFAR10_URL, CIFAR10_SHA256[CIFAR10_ARCHIVE], CIFAR10_ARCHIVE)


def _find() -> tuple[_Form, Path]:
    """The first form of CIFAR-10 that is there, and its path."""
    for place in data_places():
        for form in _FORMS:
            path = place / form.file
            if path.is_file() if form.file in CIFAR10_SHA256 else path.is_dir():
                return form, path
    raise DataNotFound(
        f"CIFAR-10 was not found. Looked in {looked()} for {CIFAR10_BATCHES}/, {CIFAR10_ARCHIVE}, "
        f"{CIFAR10_TREE}/{{train,test}}/<class>/*.jpg and {CIFAR10_TREE_ARCHIVE}. To get it: download {CIFAR10_URL} "
        '(163 MB) by python -c "from replication import data; data.download_cifar10()", or put one of these into a '
        "folder and set REPLICATION_DATA to that folder"
    )


def _source_checksum(path: Path) -> str:
    """Checksum of an archive, which must be the one that is known, or of a folder's files: names and bytes."""
    if path.is_file():
        found, wanted = file_sha256(path), CIFAR10_SHA256[path.name]
        if found != wanted:
            raise ChecksumMismatch(
                f"{path} is damaged or another file: its SHA-256 is {found}, {wanted} was expected. Delete it and get "
                "it again; replication.data.download_cifar10() downloads the original"
            )
        return found
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()):
        digest.update(f"{name}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _read_batches(path: Path, limit: int | None) -> _Loaded:
    """Read torchvision's folder."""
    from replication.compat import torchvision  # here: it imports torch, which most users of this module do not need

    arrays = {}
    classes: tuple[str, ...] = ()
    for split in SPLITS:
        try:
            dataset = torchvision.datasets.CIFAR10(path.parent, train=split == "train", download=False)
        except RuntimeError as error:
            raise ChecksumMismatch(
                f"{path} is damaged or incomplete: torchvision knows the MD5 of each of its files and says '{error}'. "
                "Delete the folder and get it again; replication.data.download_cifar10() downloads the original"
            ) from error
        arrays[f"{split}_images"] = np.ascontiguousarray(np.moveaxis(dataset.data[:limit], 3, 1))
        arrays[f"{split}_labels"] = np.asarray(dataset.targets[:limit], dtype=np.int64)
        classes = tuple(dataset.classes)
    return arrays, classes


def _read_archive(path: Path, limit: int | None) -> _Loaded:
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
        return _read_batches(Path(folder, CIFAR10_BATCHES), limit)


def _read_tree(path: Path, limit: int | None) -> _Loaded:
    names = (file.relative_to(path).as_posix() for file in path.rglob("*.jpg"))
    return _decode(path, names, lambda name: (path / name).read_bytes(), limit)


def _read_tree_archive(path: Path, limit: int | None) -> _Loaded:
    # one pass: a tar compressed as a whole can only be read from front to back
    with tarfile.open(path, "r|xz") as tar:
        files = {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}
    return _decode(path, files, files.__getitem__, limit)


def _decode(source: Path, names: Iterable[str], read: Callable[[str], bytes], limit: int | None) -> _Loaded:
    """Decode `<split>/<class>/<name>.jpg`, taking the classes in turn: any first n images are balanced."""
    by_class: dict[str, dict[str, list[str]]] = {split: defaultdict(list) for split in SPLITS}
    for name in sorted(names):
        if match := re.fullmatch(r"(?:\./)?(train|test)/([^/]+)/[^/]+\.jpg", name):
            by_class[match[1]][match[2]].append(name)
    classes = tuple(sorted(by_class["train"]))
    single = sorted(by_class["train"].keys() ^ by_class["test"].keys())
    if single or not classes:
        raise DataNotFound(
            f"{source} should hold train/<class>/*.jpg and test/<class>/*.jpg with the same classes; it has "
            + " and ".join(f"{split} with {len(by_class[split])} classes" for split in SPLITS)
            + (f", of which one alone has {', '.join(single)}" if single else "")
        )
    arrays = {}
    for split in SPLITS:
        turns = sorted(
            (turn, label, name) for label, c in enumerate(classes) for turn, name in enumerate(by_class[split][c])
        )[:limit]
        images = np.empty((len(turns), 3, 32, 32), dtype=np.uint8)
        for i, (_, _, name) in enumerate(turns):
            with Image.open(io.BytesIO(read(name))) as image:
                if image.size != (32, 32):
                    raise ValueError(f"{source}: {name} has {image.size} pixels, images of CIFAR-10 have (32, 32)")
                images[i] = np.moveaxis(np.asarray(image.convert("RGB")), 2, 0)
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = np.asarray([label for _, label, _ in turns], dtype=np.int64)
    return arrays, classes


class _Form(NamedTuple):
    """A form that CIFAR-10 comes in."""

    name: str
    file: str
    read: Callable[[Path, int | None], _Loaded]
    cached: bool  # whether reading takes long enough


# the preferred first
_FORMS: Final = (
    _Form("CIFAR-10", CIFAR10_BATCHES, _read_batches, cached=False),
    _Form("CIFAR-10", CIFAR10_ARCHIVE, _read_archive, cached=True),
    _Form("CIFAR-10 (JPEG 75)", CIFAR10_TREE, _read_tree, cached=True),
    _Form("CIFAR-10 (JPEG 75)", CIFAR10_TREE_ARCHIVE, _read_tree_archive, cached=True),
)


def _load(form: _Form, path: Path, limit: int | None, checksum: str) -> _Loaded:
    """Read a form of CIFAR-10, from the cache where it is kept there; a limited read does not fill the cache."""
    cache = cache_folder() / f"cifar10-{checksum}.npz"
    if not form.cached:
        return form.read(path, limit)
    if limit is not None:
        return _from_cache(cache) or form.read(path, limit)

    def make() -> _Loaded:
        arrays, classes = form.read(path, None)
        with replacing(cache) as temporary:
            np.savez(temporary, allow_pickle=False, classes=np.asarray(classes), **arrays)
        return arrays, classes

    return made_once(cache, lambda: _from_cache(cache), make)


def _from_cache(cache: Path) -> _Loaded | None:
    """What the cache holds; None if that is nothing or not whole (zip files carry a CRC)."""
    try:
        with np.load(cache, allow_pickle=False) as stored:
            arrays = {f"{split}_{what}": stored[f"{split}_{what}"] for split in SPLITS for what in ("images", "labels")}
            return arrays, tuple(map(str, stored["classes"]))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
