from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from evidence_cases import COMMON, FIELDS, content, entry, make, paper
from pydantic import ValidationError

from replication.evidence import ClaimError, load_claims, parse_claims
from replication.evidence.claims import PROFILES


def refused(*tests: dict[str, Any], **top: Any) -> str:
    """The message with which a file is refused."""
    with pytest.raises(ClaimError) as error:
        paper(*tests, **top)
    return str(error.value)


@pytest.mark.parametrize("kind", FIELDS)
def test_every_kind_is_loaded_from_a_file_and_is_immutable(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content(entry(kind))), encoding="utf-8")
    loaded = load_claims(path)
    assert loaded.tests[0] == make(kind)
    assert [(test.scale, test.role, test.claim) for test in loaded.tests] == [(s, "primary", "C1") for s in PROFILES]
    assert loaded.notebooks == ("10_test",)
    assert loaded.at("10_test", "smoke") == loaded.tests[:1]
    assert loaded.of("10_test") == loaded.claims
    assert loaded.at("11_test", "smoke") == loaded.of("11_test") == ()
    with pytest.raises(ValidationError, match="frozen"):
        loaded.tests[0].id = "other"


@pytest.mark.parametrize(
    ("kind", "changes", "field", "says"),
    [
        ("identity", {"margin": 0.1}, "margin", "is not a field here"),
        ("direction", {"baseline": ["x"]}, "baseline", "did you mean 'baselines'"),
        ("direction", {"margin": -1}, "margin", "greater than or equal to 0 (got -1)"),
        ("direction", {"margin": float("nan")}, "margin", "finite"),
        ("direction", {"margin": 1.0}, "margin", "the band ±1 is wider than the claim's own -1"),
        ("direction", {"effect": 1.0}, "effect", "1 is not lower than 0"),
        ("direction", {"direction": "smaller"}, "direction", "'lower' or 'higher'"),
        ("direction", {"min_seeds": 1}, "min_seeds", "at least 2"),
        ("every", {"decisive": ["rex"]}, "decisive", "'rex' is not one of the baselines"),
        ("every", {"decisive": []}, "decisive", "at least 1"),
        ("direction", {"decisive": ["linear"]}, "decisive", "only with `every: true`"),
        ("direction", {"baselines": ["uba"]}, "baselines", "compared with itself"),
        ("direction", {"baselines": ["linear", "linear"]}, "baselines", "twice"),
        ("direction", {"by": ["seed"]}, "by", "a column stands twice"),
        ("direction", {"tuned": {"scores": "error", "tests": "error", "setting": []}}, "tuned.setting", "at least 1"),
        ("value", {"paper_value": None}, "paper_value", "valid number"),
        ("value", {"paper_precision": 3.0}, "tolerance", "the band ±3 is wider than the number 3"),
        ("slope", {"bound": 1.0}, "bound", "needed with at_most"),
        ("slope", {"claimed": "at_least"}, "bound", "needed with at_most"),
        ("slope", {"margin": 0.1}, "margin", "is not a field here"),
        ("slope", {"method": "log"}, "method", "'linear', 'loglog' or 'spearman'"),
        ("interval", {"lower": None, "upper": None}, "lower", "must be given"),
        ("interval", {"lower": 2.0}, "lower", "above upper"),
        ("interval", {"by": []}, "every", "no column that makes cells"),
        ("interval", {"effect": None}, "effect", "a primary test needs `effect` and `spread`, or must be `exact`"),
        ("interval", {"spread": None}, "spread", "a primary test needs"),
        ("identity", {"tolerance_reason": " "}, "tolerance_reason", "needs its reason"),
        ("identity", {"exact": False}, "exact", "True"),
        ("identity", {"comparison": "identical"}, "comparison", "'identity'"),
        ("identity", {"id": "a b"}, "id", "pattern"),
        ("identity", {"scale": "smoke", "claim": "C2"}, "id", ""),
    ],
)
def test_a_malformed_test_is_refused_by_file_claim_test_and_field(
    kind: str, changes: dict[str, Any], field: str, says: str
) -> None:
    if "scale" in changes:
        # where a test stands is not its own to say
        assert make(kind, **changes).claim == "C1"
        return
    fields = entry(kind, **changes)
    message = refused(entry("identity", id="good"), fields).splitlines()[0]
    assert message.startswith(f"claims.yaml, claim 'C1', test {fields['id']!r} at smoke, field '{field}':")
    assert says in message


@pytest.mark.parametrize("name", [name for name in COMMON if name not in ("at", "effect", "spread")])
def test_every_required_field_is_required(name: str) -> None:
    fields = entry("identity")
    del fields[name]
    assert f"field '{name}': Field required" in refused(fields)


@pytest.mark.parametrize("name", ["id", "says", "source", "read"])
def test_every_required_field_of_a_claim_is_required(name: str) -> None:
    claim = content(entry("identity"))["claims"][0]
    del claim[name]
    assert f"field '{name}': Field required" in refused(claims=[claim])


def test_a_claim_says_how_it_is_known() -> None:
    claim = content(entry("identity"))["claims"][0] | {"read": "heard"}
    assert "claim 'C1', field 'read'" in (message := refused(claims=[claim]))
    assert "'paper', 'second-hand' or 'recollected'" in message


def test_a_claim_without_a_primary_test_is_refused() -> None:
    assert refused() == "claims.yaml, claim 'C1', field 'tests': no test, so nothing decides the claim"
    assert "no primary test at smoke" in refused(entry("interval", role="control"))
    assert "field 'role': got 'check', expected primary or control" in refused(entry("interval", role="check"))


def test_a_scale_with_controls_only_is_refused() -> None:
    control = entry("interval", id="X", role="control", at=["smoke", "standard"])
    message = refused(entry("interval", at=["smoke"]), control)
    assert message.endswith(
        "claim 'C1', field 'tests': no primary test at standard, so nothing there decides the claim"
    )


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ([], "expected scales"),
        (None, "expected scales"),
        (["smok"], "must be one of smoke, standard, paper, got 'smok'; did you mean 'smoke'?"),
        ({"huge": {}}, "must be one of smoke, standard, paper, got 'huge'"),
        ([["smoke"]], "must be one of smoke, standard, paper, got ['smoke']"),
    ],
)
def test_a_test_names_its_scales(at: Any, says: str) -> None:
    message = refused(entry("interval", at=at))
    assert message.startswith("claims.yaml, claim 'C1', test 'T1', field 'at':")
    assert says in message


@pytest.mark.parametrize("differing", [5, "ab", ["ab"]])
def test_a_scale_says_its_fields_or_nothing(differing: object) -> None:
    message = refused(entry("interval", at={"smoke": None, "standard": differing}))
    assert f"test 'T1', field 'at.standard': got {differing!r}, expected the fields that differ there" in message


def test_a_scale_that_is_malformed_is_named() -> None:
    at = {"smoke": {}, "standard": {"min_seed": 5}}
    message = refused(entry("interval", at=at))
    assert message.startswith("claims.yaml, claim 'C1', test 'T1' at standard, field 'min_seed'")
    assert "did you mean 'min_seeds'" in message


def test_a_gate_is_known_where_it_is_asked() -> None:
    gate = entry("interval", id="bigram", at=["smoke"])
    assert paper(entry("interval", gates=["bigram"], at=["smoke"]), gates=[gate]).gates[0].role == "gate"
    message = refused(entry("interval", gates=["bigrams"], at=["smoke"]), gates=[gate])
    assert "field 'gates': 10_test has no gate 'bigrams' at smoke; did you mean 'bigram'?" in message
    assert "has no gate 'bigram' at standard" in refused(entry("interval", gates=["bigram"]), gates=[gate])
    other = entry("interval", gates=["bigram"], notebook="11_test", at=["smoke"])
    assert "11_test has no gate 'bigram'" in refused(other, gates=[gate])


def test_a_gate_may_ask_for_those_before_it_only() -> None:
    first = entry("interval", id="bigram", at=["smoke"])
    second = entry("interval", id="unigram", gates=["bigram"], at=["smoke"])
    assert paper(entry("interval"), gates=[first, second]).gates[1].gates == ("bigram",)
    message = refused(entry("interval"), gates=[second, first])
    assert "gate 'unigram' at smoke, field 'gates': 10_test has no gate 'bigram' at smoke before this one" in message
    assert "before this one" in refused(entry("interval"), gates=[entry("interval", id="a", gates=["a"], at=["smoke"])])


@pytest.mark.parametrize("where", ["a test", "a gate", "a check", "tuning"])
def test_quantities_are_known_and_never_volatile(where: str) -> None:
    def messages(quantity: str) -> str:
        wrong = entry("interval", id="W", quantity=quantity)
        if where == "tuning":
            return refused(entry("direction", tuned={"scores": quantity, "tests": "error", "setting": ["peak"]}))
        group = {"a gate": "gates", "a check": "checks"}.get(where)
        return refused(entry("interval"), **{group: [wrong]}) if group else refused(wrong)

    assert "field 'quantity': 'erorr' is not among the file's quantities; did you mean 'error'?" in messages("erorr")
    assert "field 'quantity': 'seconds' is volatile: no verdict may depend on the machine" in messages("seconds")


def test_a_paper_has_one_headline() -> None:
    claim = content(entry("identity"))["claims"][0] | {"headline": True}
    second = {**claim, "id": "C2", "tests": [entry("identity", id="T2")]}
    assert "claim 'C2', field 'headline': a paper has one" in refused(claims=[claim, second])


def test_ids_are_unique() -> None:
    assert "test 'T1', field 'id': stands twice" in refused(entry("identity"), entry("value"))
    assert "test 'T1', field 'id': stands twice" in refused(entry("identity"), checks=[entry("value")])
    claim = content(entry("identity"))["claims"][0]
    second = {**claim, "tests": [entry("identity", id="T2")]}
    assert "claim 'C1', field 'id': stands twice" in refused(claims=[claim, second])


def test_the_unit_is_the_quantitys_unless_the_test_has_its_own() -> None:
    claims = paper(entry("slope", unit="% a step"), entry("interval", id="T2"))
    assert [claims.unit(claims.test(name)) for name in ("T1", "T2")] == ["% a step", "%"]


def test_tests_and_claims_are_found_by_id() -> None:
    claims = paper(entry("slope"), checks=[entry("identity", id="K")])
    assert claims.test("K", "standard").scale == "standard"
    assert claims.claim("C1").says == "Something holds."
    with pytest.raises(ClaimError, match="test: must be one of T1, K, got 'T'"):
        claims.test("T")
    with pytest.raises(ClaimError, match=r"claim: must be one of C1, got 'C2'"):
        claims.claim("C2")


def test_a_key_that_stands_twice_in_yaml_is_refused() -> None:
    with pytest.raises(ClaimError, match="'title' stands twice"):
        parse_claims("paper: a\ntitle: b\ntitle: c\n", "claims.yaml")


def test_yaml_may_merge_what_several_scales_share() -> None:
    text = (
        yaml.safe_dump(content(entry("identity")))
        + "checks:\n- &k "
        + yaml.safe_dump(entry("identity", id="K"), default_flow_style=True, width=9999)
    )
    text += "- {<<: *k, id: L}\n"
    assert [test.id for test in parse_claims(text, "claims.yaml").checks[::3]] == ["K", "L"]


@pytest.mark.parametrize(
    "text", ["claims: [", "just words", "!!python/object/apply:os.getcwd []", "claims: 3", "claims: [3]"]
)
def test_what_is_not_a_claims_file_is_refused(text: str) -> None:
    with pytest.raises(ClaimError, match=r"^claims\.yaml"):
        parse_claims(text, "claims.yaml")


def test_an_unknown_paper_is_refused_by_name() -> None:
    with pytest.raises(ClaimError, match=r"paper: must be one of .*, got 'no-such-paper'"):
        load_claims("no-such-paper")


def test_the_committed_claims_of_every_paper_load() -> None:
    rooms = sorted(Path(__file__).parents[2].glob("replication/*/claims.yaml"))
    assert len(rooms) == 5
    for path in rooms:
        assert load_claims(path.parent.name).paper == path.parent.name
