from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
import types
from pathlib import Path

import pytest

from replication import provenance
from replication.provenance import pin_numerics


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An x86 machine with AVX2, none of the variables set, torch not imported."""
    for name in provenance.PINNED:
        # set first, so that the variable's absence is restored too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(provenance, "_has_avx2", lambda: True)
    return monkeypatch


def test_everything_is_pinned_before_torch(bare: pytest.MonkeyPatch) -> None:
    assert pin_numerics() == {"pinned": True, "reason": "", "variables": provenance.PINNED}
    assert {name: os.environ[name] for name in provenance.PINNED} == provenance.PINNED
    bare.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert pin_numerics()["pinned"], "pinned by the parent process, before this one imported torch"


def test_after_torch_it_says_so(bare: pytest.MonkeyPatch) -> None:
    bare.setitem(sys.modules, "torch", types.ModuleType("torch"))
    for _ in range(2):  # also when a cell is run again
        found = pin_numerics()
        assert (found["pinned"], found["reason"]) == (False, "torch was already imported")
    assert "ATEN_CPU_CAPABILITY" not in os.environ, "the keys of parts would say that it holds"


def test_the_tests_compute_as_runs_do() -> None:
    assert pin_numerics()["reason"] != "torch was already imported"


def test_processes_that_are_started_after_torch_have_it_pinned(bare: pytest.MonkeyPatch) -> None:
    bare.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert pin_numerics(here=False)["pinned"]
    assert {name: os.environ[name] for name in provenance.PINNED} == provenance.PINNED


def test_a_variable_set_by_hand_is_left_alone_and_named(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("OMP_NUM_THREADS", "4")
    found = pin_numerics()
    assert os.environ["OMP_NUM_THREADS"] == "4"
    assert (found["pinned"], found["reason"]) == (False, "set before: OMP_NUM_THREADS=4")


def test_instruction_sets_are_pinned_only_where_they_exist(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(provenance, "_has_avx2", lambda: False)
    found = pin_numerics()
    assert not found["pinned"]
    assert "ATEN_CPU_CAPABILITY" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_the_processor_is_read_from_linux_and_from_numpy_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = "processor : 0\nmodel name\t: A CPU @ 2 GHz\nflags\t\t: fpu avx avx2 avx512f\n"
    monkeypatch.setattr(provenance, "_cpuinfo", lambda: linux)
    assert provenance.cpu_model() == "A CPU @ 2 GHz"
    assert provenance.cpu_features() == {"fpu", "avx", "avx2", "avx512f"}
    monkeypatch.setattr(provenance, "_cpuinfo", lambda: "")
    assert provenance.cpu_model()
    if platform.machine() == "x86_64":
        with_avx2 = "avx2" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else True
        assert ("avx2" in provenance.cpu_features()) == with_avx2


def test_what_is_collected_names_no_path_user_or_host() -> None:
    parameters = {
        "seeds": [0, 1],
        "folder": "/home/somebody/data.csv",
        "other": "C:\\data\\x.csv",
        "rate": 0.1,
        "n": "a/b",
    }
    found = provenance.collect(
        parameters=parameters, data={"digits": "sha256:ab"}, device="cpu", pinned={"pinned": True}
    )
    text = json.dumps(found, allow_nan=False)
    assert found["parameters"] == {**parameters, "folder": "…/data.csv", "other": "…/x.csv"}
    assert found["seeds"] == [0, 1]
    assert found["data"] == {"digits": "sha256:ab"}
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"]
    assert found["packages"]["numpy"]
    assert "pytest" not in found["packages"]
    assert str(Path.cwd()) not in text
    assert f"/{getpass.getuser()}/" not in text
    assert platform.node() not in text


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_revision_is_that_of_the_packages_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "replication" / "evidence"
    room.mkdir(parents=True)
    (tmp_path / "replication" / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(room.parent / "provenance.py"))
    nothing = {"revision": None, "dirty": None}
    assert provenance.git_revision() == nothing
    git(tmp_path, "init", "-q")
    # in somebody else's repository, but not of it
    assert provenance.git_revision() == nothing
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first", "--no-verify")
    assert provenance.git_revision() == {"revision": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "page.ipynb").write_text("{}")
    assert provenance.git_revision()["dirty"] is False, "what lies beside the package is not its source"
    (room / "new.py").write_text("")
    assert provenance.git_revision()["dirty"] is True
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_revision() == nothing


def test_threads_are_asked_of_torch_only_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert provenance.threads() == {"torch": None, "omp": 3}
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(get_num_threads=lambda: 5))
    assert provenance.threads()["torch"] == 5


def test_the_room_never_imports_torch() -> None:
    code = "import sys, replication.evidence; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
