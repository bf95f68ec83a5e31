from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toys import PARAMETERS, Toy, toy_cells

from replication import evidence
from replication.cli import cli
from replication.evidence import power
from replication.runs import notebook
from replication.runs.batch import Grid
from replication.runs.notebook import Options, Outcome
from replication.runs.profiles import Project
from replication.runs.store import Run, RunStore, Spec


@pytest.fixture
def replicate(toy: Toy, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The command line on the toy project, in this process."""
    monkeypatch.setattr(Project, "find", classmethod(lambda cls: toy.project))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments)

    return call


COMMANDS = [
    *("run", "batch", "resume", "report", "diff", "verify", "gc", "list", "parts", "parameters", "show", "power"),
    "select",
]


def test_help_lists_commands_in_the_order_of_need_and_teaches(replicate) -> None:
    done = replicate("--help")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.partition("Commands:")[2].strip().splitlines()] == COMMANDS
    assert "replicate batch grid.yaml --workers 2" in done.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(replicate, command: str) -> None:
    done = replicate(command, "-h")
    assert done.exit_code == 0
    assert len(done.output.splitlines()) > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tony"], "there is no notebook 'tony'; did you mean 'toy'?"),
        (["run", "toy", "--profile", "smok"], "did you mean 'smoke'?"),
        (["run", "toy", "-p", "sedes", "3"], "did you mean 'seeds'?"),
        (["run", "toy", "-p", "seeds", "many"], "parameter 'seeds' is int, got 'many' (str)."),
        (["run", "toy", "-p", "peak", ".nan"], "parameter 'peak' is finite float, got nan (float)."),
        (["run", "toy", "-p", "seeds", "1", "-p", "seeds", "2"], "parameter 'seeds' is set twice"),
        (["run", "toy", "-y", "{seeds: 1}", "-p", "seeds", "2"], "parameter 'seeds' is set twice"),
        (["run", "toy", "-y", "{seeds: 1, seeds: 2}"], "the key 'seeds' stands twice"),
        (["run", "./toy.ipynb"], "does not exist, nor in the project"),
        (["batch", "--resources", "GPU=-1"], "--resources must be positive amounts"),
        (["batch", "--resources", "GPU=nan"], "--resources must be positive amounts"),
        (["batch", "--resources", "=1"], "--resources must be positive amounts"),
        (["batch", "--resources", "GPU=one"], "--resources must be positive amounts"),
        (["run", "toy", "-y", "{seeds: [1, 2]}"], "parameter 'seeds' is int, got [1, 2] (list)."),
        (["run", "toy", "-y", "[1]"], "-y must be a mapping"),
        (["run", "toy", "-y", "{a"], "-y is not YAML"),
        (["run", "toy", "--publish", "-p", "seeds", "4"], "--publish is for a profile as it stands"),
        (["batch", "no-such.yaml"], "cannot read no-such.yaml"),
        (["batch", "--workers", "0"], "0 is not in the range"),
        (["resume"], "no batch was started yet"),
        (["report", "abc", "--profile", "smoke"], "not both"),
        (["show", "zzz"], "there is no notebook 'zzz'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(replicate, toy: Toy, arguments: list[str], message: str) -> None:
    done = replicate(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Error: " in done.output
    assert "Traceback" not in done.output
    assert not toy.project.store.exists()


def test_parameters_reach_the_run_by_p_and_y(replicate, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Run, Options]] = []

    def execute(run: Run, *, project: Project, options: Options, listener: object) -> Outcome:
        asked.append((run, options))
        return Outcome(run, "computed", 1.0, "1 reproduced.")

    monkeypatch.setattr("replication.runs.batch.execute", execute)
    arguments = [
        "-p",
        "peak",
        "1e-3",
        "-p",
        "label",
        "7",
        "-y",
        "{seeds: 9, budgets: 1..3}",
        "--timeout",
        "5",
        "--force",
    ]
    done = replicate("run", "toy", "--profile", "standard", *arguments)
    assert done.exit_code == 0, done.output
    ((run, options),) = asked
    expected = {"profile": "standard", "seeds": 9, "peak": 0.001, "budgets": [1, 2, 3], "label": "7", "fail": False}
    assert run.parameters == expected
    assert options == Options(force=True, timeout=5.0)
    assert not (toy.project.store / "batches").exists()


def test_exit_status_and_list_of_failures(replicate, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(run: Run, **_: object) -> Outcome:
        if run.parameters["fail"]:
            return Outcome(run, "failed", 1.0, "cell 4 raised ValueError: no")
        return Outcome(run, "computed", 1.0, "1 reproduced.")

    monkeypatch.setattr("replication.runs.batch.execute", execute)
    grid = toy.root / "grid.yaml"
    grid.write_text("runs: [{notebook: toy, grid: {fail: [true, false], seeds: 1..2}}]")
    done = replicate("batch", str(grid), "--workers", "2")
    assert done.exit_code == 1
    assert "2 of 4 runs are finished (batch " in done.output
    assert done.output.count("cell 4 raised ValueError: no") == 4
    grid.write_text("runs: [{notebook: toy, parameters: {fail: false}}]")
    assert replicate("batch", str(grid)).exit_code == 0
    assert replicate("batch", str(grid), "--publish").exit_code == 2


@pytest.mark.parametrize(
    ("command", "said"), [("run", "and 3 if it is finished but did not find"), ("batch", "status is 3")]
)
def test_status_of_missing_data_stands_in_the_help(replicate, command: str, said: str) -> None:
    assert said in " ".join(replicate(command, "-h").output.split())


def test_show_lists_parameters_with_types_profiles_and_meanings(replicate) -> None:
    lines = replicate("show", "toy").output.splitlines()
    (row,) = [line for line in lines if "budgets" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["budgets", "list[int]", "[10, 20]", "[10, 20, 40]", "steps"]


def test_a_narrow_terminal_shows_all_of_every_run(replicate, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.store.fail(toy.store.plan(Spec("toy", "smoke", {})), {})
    run = toy.store.plan(Spec("toy", "smoke", {}))
    toy.store.open_work(run)
    monkeypatch.setenv("COLUMNS", "40")
    shown = replicate("list").output
    assert max(map(len, shown.splitlines())) <= 40
    cells = [line.split("│")[1].strip() for line in shown.partition("Runs")[2].splitlines() if line.startswith("│")]
    assert run.name in "".join(cells)
    assert "failed" in shown


def test_a_terminal_of_ascii_shows_a_sign_for_other_letters(toy: Toy) -> None:
    toy.add("toy", toy_cells(PARAMETERS.replace("# steps", "# steps of φ → 0")), paper="toy")
    done = toy.replicate("show", "toy", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "steps of ? ? 0" in done.stdout


def test_list_shows_notebooks_and_says_when_there_is_no_run(replicate) -> None:
    output = replicate("list").output
    assert "smoke, standard" in output
    assert "No runs yet" in output


EXAMPLES = re.findall(
    r"replicate (?:run|show) (?:\d\d[_ ]|notebooks/).*",
    "\n".join(command.help or "" for command in (cli, *cli.commands.values())),
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_in_the_help_work(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name notebooks, profiles and parameters of this project; nothing is executed."""
    monkeypatch.delenv("REPLICATION_HOME", raising=False)
    monkeypatch.setattr("replication.cli._run_all", lambda *_, **__: None)
    done = CliRunner().invoke(cli, shlex.split(example)[1:])
    assert done.exit_code == 0, done.output


def test_grid_in_the_help_works(tmp_path: Path) -> None:
    assert cli.commands["batch"].help is not None
    grid = textwrap.dedent(cli.commands["batch"].help.partition("A grid file:\n")[2].partition("\n\n")[0])
    (tmp_path / "grid.yaml").write_text(grid)
    project = Project.find()
    specs = Grid.load(tmp_path / "grid.yaml").specs(project)
    assert len([RunStore(project).plan(spec) for spec in specs]) == 8


def test_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "replication", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.startswith("replicate, version ")


def test_stored_results_are_told_in_a_few_sentences() -> None:
    check = evidence.Outcome("K1", "check", "", "no").to_dict()
    results = {"verdicts": [{"verdict": "reproduced"}, {"verdict": "inconclusive"}], "tests": [check]}
    told = "1 reproduced, 1 inconclusive. 0 of 1 checks hold (not K1)."
    assert notebook.sentence(results) == notebook.message(results) == told
    lacking = {**results, "missing": {"digits": "`fetch()` fetches them.", "tables": "Ask for them."}}
    assert notebook.message(lacking) == (f"{told} Data missing: digits: `fetch()` fetches them. tables: Ask for them.")
    # results of an older form, and of a notebook that asks nothing
    assert notebook.sentence({"verdicts": [{"verdict": "reproduced"}]}).startswith("1 reproduced.")
    assert notebook.sentence({"verdicts": [], "tests": []}) == "no claims."


def test_power_of_named_papers_and_of_all(replicate, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(evidence, "load_claims", lambda paper: asked.append(paper) or paper)
    monkeypatch.setattr(power, "power_table", lambda claims: f"of {', '.join(claims)}")
    assert replicate("power").output == "of toy\n\n"
    assert replicate("power", "uba", "disf").output == "of uba\n\nof disf\n\n"
    assert asked == ["toy", "uba", "disf"]


def test_power_of_an_unknown_paper_is_refused_in_words(replicate) -> None:
    done = replicate("power", "ubba")
    assert done.exit_code == 1
    assert "paper: must be one of adcm, disf, meek, metalearning, uba, got 'ubba'; did you mean 'uba'?" in done.output
