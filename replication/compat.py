"""Imports torchvision beside any build of torch; everything that needs torchvision takes it from here.

torchvision's wheel on PyPI is built against torch with CUDA. Beside a CPU build of torch its compiled operators do
not load. torchvision foresees that, but its import then fails all the same, with "operator torchvision::nms does not
exist", because it registers shape functions for two operators that nobody has declared. This module declares the two,
and only where they are missing: data sets, transforms and classification models then work, and the operators
themselves, which have no kernel, raise torch's own error when they are called.

>>> from replication.compat import torchvision
>>> torchvision.transforms.CenterCrop(2).size
(2, 2)
"""

from __future__ import annotations

import sys
from typing import Final

import torch

__all__ = ["DECLARED", "torchvision"]

# The operators that torchvision/_meta_registrations.py takes for granted; schemas as in torchvision's C++ sources.
_SCHEMAS: Final = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing() -> tuple[str, ...]:
    """Declare the operators that do not exist yet; returns their names."""
    missing = tuple(name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name))
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMAS[name])
    return missing


#: Names of the operators declared here: empty where torchvision's own operators load.
DECLARED: tuple[str, ...] = ()

try:
    # First as it is: declaring an operator before torchvision's own library loads would define it twice.
    import torchvision
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    # The failed import leaves submodules behind that the second attempt would find without their package.
    for _name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[_name]
    DECLARED = _declare_missing()
    import torchvision
