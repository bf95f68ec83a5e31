"""Every committed result says what its own records say, and would say otherwise if they were otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replication.evidence import flips, load_claims, load_records, reevaluate

RESULTS = Path(__file__).parents[2] / "results"
FILES = sorted(RESULTS.glob("*/*.json"))
NAMES = [path.relative_to(RESULTS).as_posix() for path in FILES]


def attempted() -> list[Any]:
    found = []
    for path, name in zip(FILES, NAMES, strict=True):
        for verdict in json.loads(path.read_text(encoding="utf-8"))["verdicts"]:
            if verdict["verdict"] != "not attempted":
                found.append(pytest.param(path, verdict["claim_id"], id=f"{name}:{verdict['claim_id']}"))
    return found


def test_every_executed_notebook_has_its_results() -> None:
    """A renamed folder or file type must not leave the tests below with nothing to do."""
    deciding = []
    for path in sorted((RESULTS.parent / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        executed = any(cell.get("execution_count") for cell in notebook["cells"])
        if executed and notebook["metadata"].get("replication", {}).get("paper"):
            deciding.append(f"smoke/{path.stem}.json")
    if not deciding and not FILES:
        pytest.skip("no notebook that decides claims has been executed yet")
    assert set(deciding) <= set(NAMES)
    assert attempted()


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_stored_verdicts_are_those_of_the_stored_records(path: Path) -> None:
    results = json.loads(path.read_text(encoding="utf-8"))
    assert results["notebook"] == path.stem
    assert results["profile"] == path.parent.name
    again = json.loads(json.dumps([verdict.to_dict() for verdict in reevaluate(results)]))
    assert [one["claim_id"] for one in again] == [one["claim_id"] for one in results["verdicts"]]
    for now, stored in zip(again, results["verdicts"], strict=True):
        assert_same(now, stored, stored["claim_id"])


def assert_same(now: Any, stored: Any, where: str) -> None:
    """Words exactly, numbers to 1e-9."""
    if isinstance(stored, dict):
        assert now.keys() == stored.keys(), where
        for key, value in stored.items():
            assert_same(now[key], value, f"{where}.{key}")
    elif isinstance(stored, list):
        assert len(now) == len(stored), where
        for index, value in enumerate(stored):
            assert_same(now[index], value, f"{where}[{index}]")
    elif isinstance(stored, float):
        assert now == pytest.approx(stored, rel=1e-9, abs=1e-9), where
    else:
        assert now == stored, where


@pytest.mark.parametrize(("path", "claim_id"), attempted())
def test_every_attempted_claim_flips(path: Path, claim_id: str) -> None:
    results = json.loads(path.read_text(encoding="utf-8"))
    claim = next(claim for claim in load_claims(results["paper"]).claims if claim.id == claim_id)
    assert flips(claim, load_records(results["records"]), results["profile"])
