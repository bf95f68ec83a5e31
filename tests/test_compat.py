from __future__ import annotations

import json
import subprocess
import sys

import pytest

DEFINE = """
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in {names!r}:
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
REPORT = """
import json
from replication import compat
from replication.compat import torchvision
from PIL import Image
shape = list(torchvision.transforms.ToTensor()(Image.new("RGB", (4, 3))).shape)
print(json.dumps({"declared": compat.DECLARED, "has_ops": torchvision.extension._has_ops(), "shape": shape}))
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def report(code: str = "") -> dict[str, object]:
    done = python(code + REPORT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "importing torchvision must be silent: committed notebooks hold no stderr"
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def loads_alone() -> bool:
    """Whether this environment's torchvision imports without help."""
    done = python("import torchvision")
    assert done.returncode == 0 or "operator torchvision::" in done.stderr, done.stderr
    return done.returncode == 0


def test_torchvision_imports_and_works(loads_alone: bool) -> None:
    answer = report()
    assert answer["shape"] == [3, 3, 4]
    # a matching build gets nothing declared; the other gets exactly the two operators the import wants
    assert answer["declared"] == ([] if loads_alone else ["nms", "qnms"])


def test_nothing_is_declared_where_the_operators_exist(loads_alone: bool) -> None:
    if loads_alone:
        pytest.skip("torchvision's own operators load here: test_torchvision_imports_and_works decides this")
    assert report(DEFINE.format(names=["nms", "qnms"]))["declared"] == []


def test_only_the_missing_operator_is_declared(loads_alone: bool) -> None:
    if loads_alone:
        pytest.skip("torchvision's own operators load here")
    assert report(DEFINE.format(names=["nms"]))["declared"] == ["qnms"]


def test_an_operator_without_a_kernel_raises(loads_alone: bool) -> None:
    if loads_alone:
        pytest.skip("torchvision's own operators load here")
    import torch

    from replication.compat import torchvision

    boxes, scores = torch.zeros(1, 4), torch.zeros(1)
    with pytest.raises(RuntimeError, match="Couldn't load custom C\\+\\+ ops"):
        torchvision.ops.nms(boxes, scores, 0.5)
    with pytest.raises(NotImplementedError, match=r"torchvision::nms"):
        torch.ops.torchvision.nms(boxes, scores, 0.5)


def test_other_failures_are_not_swallowed() -> None:
    code = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("disk on fire")
sys.meta_path.insert(0, Broken())
import replication.compat
"""
    done = python(code)
    assert done.returncode != 0
    assert "disk on fire" in done.stderr
