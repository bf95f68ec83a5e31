from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from toys import PARAMETERS, Toy, leave, toy_cells

from replication import __version__, evidence, places
from replication.cli import SECTIONS, cli
from replication.evidence import claims, power
from replication.evidence import run as evidence_run
from replication.runs import notebook
from replication.runs.batch import Grid
from replication.runs.notebook import Options, Outcome
from replication.runs.profiles import Project
from replication.runs.store import Run, RunStore, Spec


def command(name: str) -> click.Command:
    """A command, which the group imports when it is asked for."""
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.fixture
def replicate(toy: Toy, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The command line on the toy project, in this process."""
    monkeypatch.setattr(Project, "find", classmethod(lambda cls: toy.project))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments)

    return call


COMMANDS = {name: command(name) for name in cli.list_commands(click.Context(cli))}


@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_is_a_screen_with_every_command_and_no_text_cut(
    replicate, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    done = replicate("--help")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert len(lines) <= 36
    assert max(map(len, lines)) <= 80
    assert "..." not in done.output.replace("NOTEBOOK...", "")
    for section, (_, commands) in SECTIONS.items():
        place = lines.index(f"{section}:")
        listed = [line.split(maxsplit=1) for line in lines[place + 1 : place + 1 + len(commands)]]
        assert listed == [[name, about] for name, about in commands.items()]
    assert list(COMMANDS) == [name for name, found in COMMANDS.items() if found.name == name]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_fits(replicate, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = replicate(command, "-h")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert len(lines) > 5
    assert [line for line in lines if len(line) > 80] == []


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
        (["resume", "--resources", "GPU=1"], "--resources is for the workers of a cluster"),
        (["run", "toy", "-y", "{seeds: [1, 2]}"], "parameter 'seeds' is int, got [1, 2] (list)."),
        (["run", "toy", "-y", "[1]"], "-y must be a mapping"),
        (["run", "toy", "-y", "{a"], "-y is not YAML"),
        (["run", "toy", "--publish", "-p", "seeds", "4"], "--publish is for a profile as it stands"),
        (["batch", "no-such.yaml"], "cannot read no-such.yaml"),
        (["batch", "--workers", "0"], "0 is not in the range"),
        (["resume"], "no batch was started yet"),
        (["report", "abc", "--profile", "smoke"], "not both"),
        (["report", "--profile", "smokey"], "no notebook has a profile 'smokey'; did you mean 'smoke'?"),
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
    assert [cell for cell in re.split("  +", lines[0]) if cell] == ["parameter", "smoke", "standard", "meaning"]
    (row,) = [line for line in lines if line.startswith("budgets")]
    assert re.split("  +", row) == ["budgets: list[int]", "[10, 20]", "[10, 20, 40]", "steps"]
    (same,) = [line for line in lines if line.startswith("peak")]
    assert re.split("  +", same) == ["peak: float", "0.5", "largest learning rate"]


@pytest.fixture
def toy_claims(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real evidence room reads the toy paper's claims."""
    for module in (claims, evidence_run):
        monkeypatch.setattr(module, "claims_file", lambda paper: toy.package / "toy" / "claims.yaml")


def finished(toy: Toy, *verdicts: str, **overrides: object) -> Run:
    """Leave a finished run with these verdicts in the store."""
    run = toy.store.plan(Spec("toy", "smoke", overrides))
    toy.store.open_work(run)
    told = [{"claim_id": f"C{i}", "verdict": verdict} for i, verdict in enumerate(verdicts)]
    toy.store.finish(run, {"verdicts": told, "tests": [], "evidence_key": ""})
    return run


WORDS = ("reproduced", "not reproduced", "partly reproduced", "reproduced", "inconclusive", "not attempted")
SAYS = "2 reproduced, 1 partly, 1 not, 1 ?, 1 not attempted"


@pytest.mark.usefixtures("toy_claims")
@pytest.mark.parametrize("columns", ["80", "200"])
def test_list_counts_the_verdicts_of_the_newest_runs(
    replicate, toy: Toy, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    older, newer = finished(toy, "reproduced", seeds=9), finished(toy, *WORDS)
    os.utime(toy.store.folder(older) / "provenance.json", (1, 1))
    lines = replicate("list").output.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert len([line for line in lines if line.startswith("toy")]) == 2
    told = " ".join("\n".join(lines).split())
    assert f"toy smoke {newer.run_id[:8]} stale: {SAYS} toy standard –" in told
    # all runs of one notebook, the newest first, with what is their own
    monkeypatch.setenv("COLUMNS", "200")
    told = " ".join(replicate("list", "toy").output.split())
    assert re.search(
        rf"{newer.run_id[:8]} smoke stale: .* {older.run_id[:8]} smoke stale: 1 reproduced seeds = 9", told
    )


@pytest.mark.usefixtures("toy_claims")
@pytest.mark.parametrize("columns", ["40", "80", "200"])
@pytest.mark.parametrize("arguments", [("list",), ("list", "toy"), ("show", "toy"), ("show", "RUN"), ("power", "toy")])
def test_no_word_is_broken_and_no_line_too_long(
    replicate, toy: Toy, columns: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = leave(toy, label="of_thirty_four_letters_and_figures")
    wanted = [run.run_id if each == "RUN" else each for each in arguments]
    shown = []
    for width in ("10000", columns):
        monkeypatch.setenv("COLUMNS", width)
        done = replicate(*wanted)
        assert done.exit_code == 0, done.output
        shown.append(done.output)
    words = [set(re.findall(r"[\w.]{2,}", text)) for text in shown]
    # blocks do without the name of the first column
    assert words[0] - {"notebook", "run", "parameter", "claim", "test", "paper"} <= words[1] <= words[0]
    assert max(map(len, shown[1].splitlines())) <= int(columns)


@pytest.mark.slow  # a process for each command
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "select"])
def test_a_reader_that_goes_away_ends_every_command_in_silence(toy: Toy, name: str) -> None:
    """`replicate list | head -1`; the pipe is closed before anything is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    # what starts kernels is tried with a batch among the faults
    helped = {"run", "batch", "resume", "render", "diff", "new"}
    arguments = ["-h"] if name in helped else ["toy"] if name in {"show", "parts"} else []
    done = subprocess.run(
        toy.command(name, *arguments), env=toy.environment(), stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_a_terminal_of_ascii_shows_a_sign_for_other_letters(toy: Toy) -> None:
    toy.add("toy", toy_cells(PARAMETERS.replace("# steps", "# steps of φ → 0")), paper="toy")
    done = toy.replicate("show", "toy", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "steps of ? ? 0" in done.stdout


def test_list_shows_notebooks_and_says_when_there_is_no_run(replicate) -> None:
    lines = replicate("list").output.splitlines()
    assert [line.split() for line in lines[2:4]] == [["toy", "smoke", "–"], ["toy", "standard", "–"]]
    assert "No runs yet" in lines[-1]
    assert "No runs of toy yet" in replicate("list", "toy").output


EXAMPLES = re.findall(
    r"replicate (?:run|show) (?:\d\d[_ ]|notebooks/).*",
    "\n".join(command.help or "" for command in (cli, *COMMANDS.values())),
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_in_the_help_work(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name notebooks, profiles and parameters of this project; nothing is executed."""
    monkeypatch.delenv("REPLICATION_HOME", raising=False)
    monkeypatch.setattr("replication.cli.running._run_all", lambda *_, **__: None)
    done = CliRunner().invoke(cli, shlex.split(example)[1:])
    assert done.exit_code == 0, done.output


def test_grid_in_the_help_works(tmp_path: Path) -> None:
    grid = textwrap.dedent((COMMANDS["batch"].help or "").partition("A grid file:\n")[2].partition("\n\n")[0])
    (tmp_path / "grid.yaml").write_text(grid)
    project = Project.find()
    specs = Grid.load(tmp_path / "grid.yaml").specs(project)
    assert len([RunStore(project).plan(spec) for spec in specs]) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
@pytest.mark.parametrize(
    "becomes",
    [KeyboardInterrupt(), ImportError("numpy failed to import"), RuntimeError("release unlocked lock"), OSError(5, "")],
    ids=repr,
)
def test_an_interrupt_is_one_whatever_becomes_of_it(
    replicate, becomes: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            raise becomes from None

    monkeypatch.setattr(Project, "find", find)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = replicate("list")
        after = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130
    assert done.output == "Stopped. Nothing finished is lost.\n"
    assert after is signal.default_int_handler
    # the same without an interrupt is an error
    monkeypatch.setattr(Project, "find", lambda: (_ for _ in ()).throw(RuntimeError("a defect")))
    assert isinstance(replicate("list").exception, RuntimeError)


def test_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "replication", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == f"replicate, version {__version__}, works on {places.home()}\n"


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
    monkeypatch.setattr(power, "power_table", lambda claims: evidence.Table(("of",), tuple((c,) for c in claims)))
    assert replicate("power").output.split() == ["of", "---", "toy"]
    assert replicate("power", "uba", "disf").output.split() == ["of", "---", "uba", "of", "----", "disf"]
    assert asked == ["toy", "uba", "disf"]


def test_power_of_an_unknown_paper_is_refused_in_words(replicate) -> None:
    done = replicate("power", "ubba")
    assert done.exit_code == 1
    assert re.search("paper: must be one of adcm, .*, got 'ubba'; did you mean 'uba'\\?", done.output)
