"""What tests of the runner share: the real evidence room over the toy paper's claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import Toy


@pytest.fixture
def claims(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The claims file of the toy paper, which the real evidence room reads."""
    from replication.evidence import claims, run

    path = toy.package / "toy" / "claims.yaml"
    for module in (claims, run):
        monkeypatch.setattr(module, "claims_file", lambda paper: path)
    return path
