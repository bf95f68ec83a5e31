"""Claims, records, and the verdicts computed from them; knows nothing of torch or of any paper."""

from __future__ import annotations

from replication.checks import extra
from replication.provenance import pin_numerics

with extra("notebooks"):
    from replication.evidence.claims import PROFILES, Claim, ClaimError, PaperClaims, Test, load_claims, parse_claims
    from replication.evidence.parts import Part, PartsFailedError, Settings, gather
    from replication.evidence.records import dump_records, load_records, rows_of, tidy
    from replication.evidence.run import Run, evidence_key, page, start
    from replication.evidence.statistics import Interval, holm, mean_interval, percentile_interval, slope
    from replication.evidence.tables import Table, comparisons_table, outcomes_table, rounded
    from replication.evidence.verdicts import (
        ANSWERS,
        VERDICTS,
        Outcome,
        Verdict,
        decide,
        evaluate,
        reevaluate,
        summary_sentence,
        verdicts,
    )

__all__ = [
    "ANSWERS",
    "PROFILES",
    "VERDICTS",
    "Claim",
    "ClaimError",
    "Interval",
    "Outcome",
    "PaperClaims",
    "Part",
    "PartsFailedError",
    "Run",
    "Settings",
    "Table",
    "Test",
    "Verdict",
    "comparisons_table",
    "decide",
    "dump_records",
    "evaluate",
    "evidence_key",
    "gather",
    "holm",
    "load_claims",
    "load_records",
    "mean_interval",
    "outcomes_table",
    "page",
    "parse_claims",
    "percentile_interval",
    "pin_numerics",
    "reevaluate",
    "rounded",
    "rows_of",
    "slope",
    "start",
    "summary_sentence",
    "tidy",
    "verdicts",
]
