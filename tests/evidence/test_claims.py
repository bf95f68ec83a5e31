from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from evidence_cases import COMMON, FIELDS, make
from pydantic import ValidationError

from replication.evidence import ClaimError, load_claims, parse_claim
from replication.evidence.claims import one_of


def write(tmp_path: Path, *claims: dict[str, Any], **top: Any) -> Path:
    content = {"paper": "test", "title": "A title", "citation": "A citation", "claims": list(claims), **top}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", FIELDS)
def test_every_kind_is_loaded_from_a_file_and_is_immutable(kind: str, tmp_path: Path) -> None:
    loaded = load_claims(write(tmp_path, {**COMMON, **FIELDS[kind]}))
    assert loaded.claims == (make(kind),)
    assert loaded.notebooks == ("10_test",)
    assert loaded.of("10_test") == loaded.claims
    assert loaded.of("11_test") == ()
    with pytest.raises(ValidationError, match="frozen"):
        loaded.claims[0].id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "changes", "field", "says"),
    [
        ("identity", {"margin": 0.1}, "margin", "not a field of a claim by identity"),
        ("direction", {"baseline": ["x"]}, "baseline", "did you mean 'baselines'"),
        ("direction", {"margin": -1}, "margin", "greater than or equal to 0 (got -1)"),
        ("direction", {"margin": float("nan")}, "margin", "finite"),
        ("direction", {"direction": "smaller"}, "direction", "'lower' or 'higher'"),
        ("direction", {"min_seeds": 1}, "min_seeds", "at least 2"),
        ("direction", {"decisive": ["rex"]}, "decisive", "'rex' is not one of the baselines"),
        ("direction", {"decisive": []}, "decisive", "at least 1"),
        ("direction", {"baselines": ["uba"]}, "baselines", "compared with itself"),
        ("direction", {"baselines": ["linear", "linear"]}, "baselines", "twice"),
        ("direction", {"premise": "linear"}, "premise", "itself"),
        ("direction", {"by": ["seed"]}, "by", "'seed' stands twice"),
        ("ordering", {"order": ["uba"]}, "order", "at least 2"),
        ("ordering", {"order": ["uba", "step", "uba"]}, "order", "twice"),
        ("ordering", {"margin": 0.1}, "margin", "not a field"),
        ("value", {"paper_value": None}, "paper_value", "valid number"),
        ("value", {"null": 3.01}, "null", "inside the band"),
        ("slope", {"bound": 1.0}, "bound", "needed with at_most"),
        ("slope", {"claimed": "at_least"}, "bound", "needed with at_most"),
        ("slope", {"claimed": "zero"}, "margin", "above 0"),
        ("slope", {"margin": 0.1}, "margin", "stands only there"),
        ("slope", {"method": "log"}, "method", "'linear', 'loglog' or 'spearman'"),
        ("interval", {"lower": None, "upper": None}, "lower", "must be given"),
        ("interval", {"lower": 2.0}, "lower", "above upper"),
        ("identity", {"tolerance_reason": " "}, "tolerance_reason", "needs its reason"),
        ("identity", {"scale": "standard"}, "profiles", "scale standard cannot be decided at smoke"),
        ("identity", {"profiles": ["huge"]}, "profiles.0", "'smoke', 'standard' or 'paper'"),
        ("identity", {"source": {"kind": "blog", "where": "", "verified": True}}, "source.kind", "blog"),
        ("identity", {"comparison": "identical"}, "comparison", "'identity'"),
        ("identity", {"id": "a b"}, "id", "pattern"),
    ],
)
def test_a_malformed_claim_is_refused_by_id_and_field(
    kind: str, changes: dict[str, Any], field: str, says: str, tmp_path: Path
) -> None:
    fields = {**COMMON, **FIELDS[kind], **changes}
    with pytest.raises(ClaimError) as parsed:
        parse_claim(fields)
    good = {**COMMON, **FIELDS["identity"], "id": "good"}
    with pytest.raises(ClaimError) as loaded:
        load_claims(write(tmp_path, good, fields))
    for error in (parsed, loaded):
        assert f"claim {fields['id']!r}, field '{field}':" in str(error.value)
        assert says in str(error.value)
        assert len(str(error.value).splitlines()) == 1
    assert str(loaded.value).startswith("claims.yaml, ")


def test_every_required_field_is_required() -> None:
    for name in COMMON:
        fields = {**COMMON, **FIELDS["identity"]}
        del fields[name]
        with pytest.raises(ClaimError, match=f"field '{name}': Field required"):
            parse_claim(fields)


def test_a_smoke_profile_never_decides_a_claim_of_a_larger_scale() -> None:
    order = ["smoke", "standard", "paper"]
    for scale in order:
        for profile in order:
            if order.index(profile) < order.index(scale):
                with pytest.raises(ClaimError, match="cannot be decided"):
                    make("identity", scale=scale, profiles=[profile])
            else:
                assert make("identity", scale=scale, profiles=[profile]).profiles == (profile,)


def test_ids_are_unique(tmp_path: Path) -> None:
    fields = {**COMMON, **FIELDS["identity"]}
    with pytest.raises(ClaimError, match=r"claims\.yaml, claim 'T1', field 'id': stands twice"):
        load_claims(write(tmp_path, fields, fields))


def test_a_key_that_stands_twice_in_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text("paper: a\ntitle: b\ntitle: c\n", encoding="utf-8")
    with pytest.raises(ClaimError, match="'title' stands twice"):
        load_claims(path)


@pytest.mark.parametrize("text", ["claims: [", "just words", "!!python/object/apply:os.getcwd []"])
def test_what_is_not_a_claims_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ClaimError, match=r"claims\.yaml"):
        load_claims(str(path))


def test_an_unknown_paper_is_refused_by_name() -> None:
    with pytest.raises(ClaimError, match="paper: 'no-such-paper' is not known"):
        load_claims("no-such-paper")


def test_one_of_suggests_the_nearest() -> None:
    assert one_of("profile", "smoke", ("smoke", "paper")) == "smoke"
    with pytest.raises(ClaimError, match="did you mean 'paper'"):
        one_of("profile", "papre", ("smoke", "paper"))


def test_the_committed_claims_of_every_paper_load() -> None:
    rooms = sorted(Path(__file__).parents[2].glob("replication/*/claims.yaml"))
    if not rooms:
        pytest.skip("no paper has claims yet")
    for path in rooms:
        assert load_claims(path.parent.name).paper == path.parent.name
