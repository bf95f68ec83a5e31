"""A run store that many machines share at an address such as ``s3://bucket/runs``; what fsspec can open will do.

Every machine works in a folder of its own. A finished run's files are copied to the address, ``results.json`` last, so
that there too a run is finished if and only if that file is there; and what others finished is copied from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import platformdirs

from replication.atomic import replacing
from replication.runs.errors import RefusedError, ReplicationError

# the order matters: who sees the last sees all
_FINISHED = ("provenance.json", "log.txt", "notebook.ipynb", "results.json")
_FAILED = ("provenance.json", "log.txt", "notebook.failed.ipynb", "failed.json")


def local_folder(address: str) -> Path:
    """Where this machine works for the store at an address."""
    return platformdirs.user_cache_path("replication") / "runs" / hashlib.sha256(address.encode()).hexdigest()[:12]


class Remote:
    """The shared copies of runs at an address.

    Parameters
    ----------
    address
        As fsspec takes it: ``s3://bucket/runs``, ``gs://…``, ``file:///mnt/runs``.

    Raises
    ------
    RefusedError
        The address's kind is unknown, or its package is not installed.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        try:
            self._files, root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise RefusedError(f"REPLICATION_RUNS is {address}, which cannot be opened: {error}.") from error
        self._root = PurePosixPath(root)

    def push(self, folder: Path, name: str) -> None:
        """Copy a run's files from `folder` to the shared place of the run of this name.

        Raises
        ------
        ReplicationError
            The address does not take them.
        """
        files = _FINISHED if (folder / "results.json").is_file() else _FAILED
        try:
            self._files.makedirs(str(self._root / name), exist_ok=True)
            for file in files:
                if (folder / file).is_file():
                    target = str(self._root / name / file)
                    # a reader never sees half a file, also where files are not written whole (a folder, say)
                    temporary = f"{target}.{uuid.uuid4().hex}.tmp"
                    self._files.put_file(str(folder / file), temporary)
                    self._files.mv(temporary, target)
        except Exception as error:  # each file system raises its own
            raise ReplicationError(
                f"cannot write {self.address} ({type(error).__name__}: {error}). The run is finished in {folder}; the "
                "same command copies it when it can."
            ) from error

    def pull(self, folder: Path, name: str) -> bool:
        """Copy a finished run's files to `folder`; whether there was anything to copy.

        Raises
        ------
        ReplicationError
            The address cannot be read.
        """
        with self._reading():
            if not self._files.exists(str(self._root / name / "results.json")):
                return False
            for file in _FINISHED:
                source = str(self._root / name / file)
                if self._files.exists(source):
                    with replacing(folder / file) as temporary:
                        self._files.get_file(source, str(temporary))
        return True

    def finished(self) -> set[str]:
        """The names (``notebook/run id``) of all finished runs.

        Raises
        ------
        ReplicationError
            The address cannot be read.
        """
        with self._reading():
            found: Any = self._files.glob(str(self._root / "*" / "*" / "results.json"))
        return {"/".join(PurePosixPath(path).parts[-3:-1]) for path in found}

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system raises its own
            raise ReplicationError(f"cannot read {self.address} ({type(error).__name__}: {error}).") from error
