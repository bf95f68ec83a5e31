"""Claims, records, and the verdicts computed from them; knows nothing of torch or of any paper."""

from __future__ import annotations

from replication.evidence.claims import PROFILES, Claim, ClaimError, PaperClaims, Source, load_claims, parse_claim
from replication.evidence.comparisons import Comparison
from replication.evidence.mutation import flips, mutate
from replication.evidence.provenance import pin_numerics
from replication.evidence.records import dump_records, load_records, rows_of, tidy
from replication.evidence.run import Run, evidence_key, start
from replication.evidence.statistics import (
    Interval,
    Paired,
    bootstrap_interval,
    equivalent,
    holm,
    mean_interval,
    paired_difference,
    percentile_interval,
    slope,
)
from replication.evidence.tables import (
    Table,
    claims_table,
    comparisons_table,
    rounded,
    verdict_markdown,
    verdict_table,
)
from replication.evidence.verdicts import VERDICTS, Verdict, evaluate, reevaluate, summary_sentence

__all__ = [
    "PROFILES",
    "VERDICTS",
    "Claim",
    "ClaimError",
    "Comparison",
    "Interval",
    "Paired",
    "PaperClaims",
    "Run",
    "Source",
    "Table",
    "Verdict",
    "bootstrap_interval",
    "claims_table",
    "comparisons_table",
    "dump_records",
    "equivalent",
    "evaluate",
    "evidence_key",
    "flips",
    "holm",
    "load_claims",
    "load_records",
    "mean_interval",
    "mutate",
    "paired_difference",
    "parse_claim",
    "percentile_interval",
    "pin_numerics",
    "reevaluate",
    "rounded",
    "rows_of",
    "slope",
    "start",
    "summary_sentence",
    "tidy",
    "verdict_markdown",
    "verdict_table",
]
