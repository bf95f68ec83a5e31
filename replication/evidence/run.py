"""One run as a notebook sees it: start, provenance, claims, records, verdicts, finish.

Where ``REPLICATION_RUN_DIR`` names a folder, records and results are left there as JSON, each written whole or not at
all. Records of the same ``REPLICATION_RUN_ID`` are reused: a change of claims or of this room reruns no experiment.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic_core import to_jsonable_python

from replication.atomic import replacing
from replication.evidence import provenance
from replication.evidence.claims import PROFILES, Claim, PaperClaims, Profile, claims_file, load_claims, one_of
from replication.evidence.records import dump_records, load_records, tidy
from replication.evidence.tables import Table, claims_table, comparisons_table, verdict_table
from replication.evidence.verdicts import Verdict, evaluate, summary_sentence

SCHEMA = 1


def start(paper: str, *, notebook: str, profile: str) -> Run:
    """Begin a run: check the names and pin the numerics. Call it before anything imports torch.

    Parameters
    ----------
    paper : str
        Name of the paper's room, such as ``"uba"``.
    notebook : str
        Stem of the notebook, such as ``"10_uba_theory"``; some claim of the paper must name it.
    profile : {"smoke", "standard", "paper"}
        The profile that the parameters are of.

    Raises
    ------
    ClaimError
        A name is not known (the message says the nearest that is), or the paper's claims are malformed.
    """
    pinned = provenance.pin_numerics()
    claims = load_claims(paper)
    one_of("notebook", notebook, claims.notebooks)
    one_of("profile", profile, PROFILES)
    return Run(claims, notebook, profile, pinned)


def evidence_key(paper: str) -> str:
    """Digest of what turns a paper's records into verdicts: the sources of this room and the paper's claims."""
    room = resources.files("replication.evidence")
    digest = hashlib.sha256()
    sources = sorted((file for file in room.iterdir() if file.name.endswith(".py")), key=lambda file: file.name)
    for file in (*sources, claims_file(paper)):
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


class Run:
    """A run in progress; made by `start`.

    Attributes
    ----------
    paper, notebook, profile
        What runs.
    claims
        The claims that this notebook decides.
    """

    def __init__(self, claims: PaperClaims, notebook: str, profile: str, pinned: Mapping[str, Any]) -> None:
        self.paper = claims.paper
        self.notebook = notebook
        self.profile: Profile = next(known for known in PROFILES if known == profile)
        self.claims: tuple[Claim, ...] = claims.of(notebook)
        folder = os.environ.get("REPLICATION_RUN_DIR")
        self._folder = Path(folder) if folder else None
        self._run_id = os.environ.get("REPLICATION_RUN_ID") or None
        self._pinned = pinned
        self._provenance: dict[str, Any] | None = None
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()

    def claim(self, claim_id: str) -> Claim:
        """One of this notebook's claims, by its id."""
        one_of("claim", claim_id, [claim.id for claim in self.claims])
        return next(claim for claim in self.claims if claim.id == claim_id)

    def provenance(
        self, *, parameters: Mapping[str, Any], data: Mapping[str, str] | None = None, device: str = "cpu"
    ) -> Table:
        """Keep what the results depend on, and show the main points of it.

        Parameters
        ----------
        parameters : mapping
            Every parameter of the experiment, after validation.
        data : mapping, optional
            Checksums of the data sets, by name.
        device : str
            Where the experiment runs.
        """
        plain = to_jsonable_python(dict(parameters), inf_nan_mode="strings")
        made = provenance.collect(parameters=plain, data=data, device=device, pinned=self._pinned)
        self._provenance = made
        git, cpu, numerics = made["git"], made["cpu"], made["numerics"]
        revision = (git["revision"] or "not in git")[:12] + (", with changes" if git["dirty"] else "")
        packages = made["packages"]
        shown = {
            "revision": revision,
            "python": f"{made['python']}, {made['platform']}",
            "packages": ", ".join(f"{name} {packages[name]}" for name in ("torch", "numpy", "pandas", "scipy")),
            "processor": f"{cpu['model']} ({', '.join(cpu['features'])})",
            "numerics": "pinned" if numerics["pinned"] else f"not pinned: {numerics['reason']}",
            "device": device,
            "data": ", ".join(f"{name} {checksum[:19]}" for name, checksum in made["data"].items()) or "none",
        }
        return Table(("provenance", self.notebook), tuple(shown.items()), made)

    def claims_table(self) -> Table:
        """This notebook's claims and the rules that decide them."""
        return claims_table(self.claims)

    def records(self, compute: Callable[[], pd.DataFrame | Iterable[Mapping[str, Any]]]) -> pd.DataFrame:
        """The run's records: those that this very run has left already, else computed now and kept.

        Parameters
        ----------
        compute : callable
            Runs the experiment and returns its records, as a frame or as rows (see `tidy`).
        """
        stored = self._stored_records()
        if stored is not None:
            return stored
        made = tidy(compute())
        if self._folder is not None:
            content = {
                "schema": SCHEMA,
                "notebook": self.notebook,
                "run_id": self._run_id,
                "records": dump_records(made),
            }
            _write_json(self._folder / "records.json", content)
        return made

    def evaluate(self, records: pd.DataFrame) -> list[Verdict]:
        """Decide this notebook's claims."""
        return evaluate(records, self.claims, self.profile)

    def verdict_table(self, verdicts: Iterable[Verdict]) -> Table:
        """What was claimed, measured and decided."""
        return verdict_table(verdicts, self.claims)

    def comparisons_table(self, verdict: Verdict) -> Table:
        """Every comparison behind one of this notebook's verdicts."""
        return comparisons_table(verdict, self.claim(verdict.claim_id))

    def finish(self, records: pd.DataFrame, verdicts: Iterable[Verdict]) -> None:
        """Print the count of verdicts, and leave the results in the run's folder if there is one.

        Raises
        ------
        ValueError
            The verdicts are not those of this notebook's claims, all of them and in order.
        RuntimeError
            `provenance` was not called: results without it are no evidence.
        """
        decided = list(verdicts)
        ids, expected = [verdict.claim_id for verdict in decided], [claim.id for claim in self.claims]
        if ids != expected:
            raise ValueError(f"verdicts: they decide {ids}, but the claims of {self.notebook} are {expected}")
        if self._provenance is None:
            raise RuntimeError("call run.provenance(parameters=…, data=…, device=…) before run.finish(…)")
        if self._folder is not None:
            times = {
                "started": self._started.isoformat(timespec="seconds"),
                "wall_seconds": round(time.perf_counter() - self._clock, 3),
            }
            results = {
                "schema": SCHEMA,
                "notebook": self.notebook,
                "paper": self.paper,
                "profile": self.profile,
                "run_id": self._run_id,
                "parameters": self._provenance["parameters"],
                "verdicts": [verdict.to_dict() for verdict in decided],
                "records": dump_records(records),
                "provenance": {**self._provenance, "threads": provenance.threads(), **times},
                "evidence_key": evidence_key(self.paper),
            }
            _write_json(self._folder / "results.json", results)
        print(f"{self.notebook}, profile {self.profile}: {summary_sentence(decided)}")  # noqa: T201 (for the page)

    def _stored_records(self) -> pd.DataFrame | None:
        if self._folder is None or self._run_id is None:
            return None
        try:
            content = json.loads((self._folder / "records.json").read_text(encoding="utf-8"))
            expected = {"schema": SCHEMA, "notebook": self.notebook, "run_id": self._run_id}
            if any(content[key] != value for key, value in expected.items()):
                return None
            return load_records(content["records"])
        except (OSError, ValueError, KeyError, TypeError):
            # absent, cut off, or of another form: the experiment says again what they were
            return None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
