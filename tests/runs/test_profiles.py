from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import Toy, toy_cells

from replication.runs import profiles
from replication.runs.errors import RefusedError
from replication.runs.profiles import Parameter, Project


def resolve(toy: Toy, profile: str = "smoke", **overrides: Any) -> dict[str, Any]:
    return profiles.resolve(toy.project, "toy", profile, overrides)


def test_profile_wins_over_default_and_override_over_profile(toy: Toy) -> None:
    toy.profile("smoke", "toy", "seeds: 4\npeak: 0.25\n")
    values = resolve(toy, peak=0.125)
    assert (values["seeds"], values["peak"], values["budgets"]) == (4, 0.125, [10, 20])


def test_profile_parameter_is_the_profiles_name(toy: Toy) -> None:
    toy.profile("standard", "toy", "seeds: 5\n")
    assert resolve(toy, "standard")["profile"] == "standard"
    with pytest.raises(RefusedError, match="use --profile"):
        profiles.resolve(toy.project, "toy", "smoke", {"profile": "paper"})
    toy.profile("standard", "toy", "profile: smoke\n")
    with pytest.raises(RefusedError, match="'standard', not 'smoke'"):
        resolve(toy, "standard")


def test_unknown_name_is_refused_with_the_nearest_and_all(toy: Toy) -> None:
    with pytest.raises(RefusedError, match=r"no parameter 'sedes'; did you mean 'seeds'\? Known: budgets, fail, label"):
        resolve(toy, sedes=3)


def test_unknown_name_in_a_profile_is_refused_naming_the_profile(toy: Toy) -> None:
    toy.profile("smoke", "toy", "budget: [3]\n")
    with pytest.raises(RefusedError, match="no parameter 'budget' in profile 'smoke'; did you mean 'budgets'"):
        resolve(toy)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seeds", "3", r"'seeds' is int, got '3' \(str\)"),
        ("seeds", True, r"'seeds' is int, got True \(bool\)"),
        ("seeds", 3.0, r"'seeds' is int, got 3.0 \(float\)"),
        ("peak", True, r"'peak' is float, got True \(bool\)"),
        ("fail", 1, r"'fail' is bool, got 1 \(int\)"),
        ("label", 1, r"'label' is str, got 1 \(int\)"),
        ("budgets", 10, r"'budgets' is list\[int\], got 10 \(int\)"),
        ("budgets", [10, 2.5], r"'budgets' is list\[int\], got 2.5 \(float\) at \[1\]"),
        ("budgets", None, r"got None \(NoneType\)"),
        ("peak", float("nan"), r"'peak' is finite float, got nan"),
        ("peak", float("inf"), r"'peak' is finite float, got inf"),
    ],
)
def test_wrong_type_is_refused_saying_parameter_value_and_type(toy: Toy, name: str, value: Any, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        resolve(toy, **{name: value})


def test_an_int_is_a_fine_float_and_becomes_one(toy: Toy) -> None:
    value = resolve(toy, peak=1)["peak"]
    assert isinstance(value, float)
    assert value == 1.0


def test_range_text_is_a_list_of_ints_only_where_one_is_declared(toy: Toy) -> None:
    assert resolve(toy, budgets="2..5")["budgets"] == [2, 3, 4, 5]
    assert resolve(toy, label="2..5")["label"] == "2..5"


def test_missing_profile_says_which_there_are(toy: Toy) -> None:
    with pytest.raises(RefusedError, match=r"no profile 'standart'; did you mean 'standard'\? Known: smoke, standard"):
        resolve(toy, "standart")


@pytest.mark.parametrize("text", ["- a\n- b\n", "seeds: [\n", "seeds: 1\nseeds: 2\n", "fail: off\n"])
def test_profile_that_is_no_flat_yaml_is_refused(toy: Toy, text: str) -> None:
    toy.profile("smoke", "toy", text)
    with pytest.raises(RefusedError, match=r"smoke/toy\.yaml"):
        resolve(toy)


def test_default_that_is_no_literal_is_refused(toy: Toy) -> None:
    toy.add("toy", toy_cells(parameters="seeds: int = 1 + len('a')  # computed"), paper="toy")
    with pytest.raises(RefusedError, match="'seeds' must default to a plain value"):
        profiles.parameters(toy.project, "toy")


def test_parameters_carry_type_default_and_meaning(toy: Toy) -> None:
    assert profiles.parameters(toy.project, "toy")["budgets"] == Parameter("budgets", "list[int]", [10, 20], "steps")


def test_only_what_differs_from_the_notebook_is_injected(toy: Toy) -> None:
    assert profiles.changed(toy.project, "toy", resolve(toy)) == {}
    assert profiles.changed(toy.project, "toy", resolve(toy, peak=2)) == {"peak": 2.0}


def test_notebook_is_found_by_name_file_path_and_start(toy: Toy) -> None:
    toy.add("other", toy_cells())
    found = [toy.project.notebook(name) for name in ("toy", "toy.ipynb", "notebooks/toy.ipynb", "t")]
    assert found == ["toy"] * 4
    with pytest.raises(RefusedError, match="did you mean 'toy'"):
        toy.project.notebook("tony")
    toy.add("toy2", toy_cells())
    assert toy.project.notebook("toy") == "toy"
    with pytest.raises(RefusedError, match="could be any of toy, toy2"):
        toy.project.notebook("to")


def test_project_is_found_from_home_and_not_from_the_current_folder(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REPLICATION_RUNS", raising=False)
    monkeypatch.setenv("REPLICATION_HOME", str(toy.root))
    monkeypatch.chdir(tmp_path)
    assert (Project.find().root, Project.find().store) == (toy.root, toy.root / "runs")
    monkeypatch.setenv("REPLICATION_RUNS", str(tmp_path / "elsewhere"))
    assert Project.find().store == tmp_path / "elsewhere"
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    with pytest.raises(RefusedError, match="set REPLICATION_HOME"):
        Project.find()


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("float", "1e-3", 0.001),
        ("int", "7", 7),
        ("str", "7", "7"),
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[int]", "0..2", "0..2"),
        ("bool", "true", True),
        ("int", "1_000", 1000),
        ("list[float]", "[1e-3, 2]", [0.001, 2]),
    ],
)
def test_text_of_the_command_line_is_read_by_the_declared_type(type_name: str, text: str, value: Any) -> None:
    assert profiles.from_text(Parameter("x", type_name, None, ""), text) == value


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "yes", "1:30", "[1"])
def test_text_of_the_command_line_that_means_nothing_or_two_things_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="-p x is not YAML"):
        profiles.from_text(Parameter("x", "dict[str, int]", None, ""), text)


def test_a_path_is_the_file_that_it_names_or_refused(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "elsewhere" / "toy.ipynb"
    copy.parent.mkdir()
    copy.write_bytes(toy.project.notebook_file("toy").read_bytes())
    monkeypatch.chdir(copy.parent)
    for name in ("toy.ipynb", "./toy.ipynb", str(copy), "../elsewhere/toy.ipynb"):
        with pytest.raises(RefusedError, match=rf"{name} is not in the project {toy.root}"):
            toy.project.notebook(name)
    for name in ("./missing/toy.ipynb", "/toy.ipynb", "notebooks/tony.ipynb", "notebooks/toy"):
        with pytest.raises(RefusedError, match=f"{name} does not exist"):
            toy.project.notebook(name)
    (copy.parent / "link.ipynb").symlink_to(toy.project.notebook_file("toy"))
    with pytest.raises(RefusedError, match="link"):
        toy.project.notebook("./link.ipynb")
    assert toy.project.notebook("toy") == "toy"
    for name in (str(toy.project.notebook_file("toy")), f"{toy.root}/notebooks/../notebooks/toy.ipynb"):
        assert toy.project.notebook(name) == "toy"


DECLARED = """\
import typing
rate: float = 1e-3  # as in Eq. 2: rate = 0.001
label: str = "a=b # no comment"  # a name
mode: typing.Literal["a", "b"] = "a"  # dotted
limit: int | None = None  # a union
quoted: "list[int]" = [1]  # as text
table: dict[str, list[int]] = {
    "a": [1, 2],
}  # over lines
plain = 3
loose: typing.Optional[float] = None
"""


def test_parameters_are_read_as_python_reads_them(toy: Toy) -> None:
    toy.add("toy", toy_cells(parameters=DECLARED), paper="toy")
    found = profiles.parameters(toy.project, "toy")
    assert list(found.values()) == [
        Parameter("rate", "float", 0.001, "as in Eq. 2: rate = 0.001"),
        Parameter("label", "str", "a=b # no comment", "a name"),
        Parameter("mode", "typing.Literal['a', 'b']", "a", "dotted"),
        Parameter("limit", "int | None", None, "a union"),
        Parameter("quoted", "list[int]", [1], "as text"),
        Parameter("table", "dict[str, list[int]]", {"a": [1, 2]}, "over lines"),
        Parameter("plain", "int", 3, ""),
        Parameter("loose", "typing.Optional[float]", None, ""),
    ]
    assert (found["limit"].check(None), found["limit"].check(3), found["mode"].check("b")) == (None, 3, "b")
    for name, value in (("mode", "c"), ("limit", 1.5), ("loose", "x"), ("table", {"a": [1.5]})):
        with pytest.raises(RefusedError, match=f"parameter '{name}' is "):
            found[name].check(value)


def test_a_parameters_cell_that_is_not_python_is_refused(toy: Toy) -> None:
    toy.add("toy", toy_cells(parameters="seeds ="), paper="toy")
    toy.add("other", toy_cells(parameters="seeds = (3"), paper="toy")
    for name in ("other", "toy"):
        with pytest.raises(RefusedError, match=rf"{name}\.ipynb: its parameters cell is not Python"):
            profiles.parameters(toy.project, name)
    toy.project.notebook_file("toy").write_text("no JSON")
    with pytest.raises(RefusedError, match=r"notebooks/toy\.ipynb is not a notebook of format 4"):
        profiles.parameters(toy.project, "toy")
