"""Claims, records, and the verdicts computed from them; knows nothing of torch or of any paper."""

from __future__ import annotations

from replication.checks import extra
from replication.provenance import pin_numerics

with extra("notebooks"):
    from replication.evidence.claims import ClaimError, PaperClaims, Test, load_claims, parse_claims
    from replication.evidence.parts import Part, Settings, gather
    from replication.evidence.records import dump_records, load_records, rows_of, tidy
    from replication.evidence.run import evidence_key, page, start
    from replication.evidence.statistics import Interval, mean_interval, percentile_interval, slope
    from replication.evidence.tables import Table, rounded
    from replication.evidence.verdicts import (
        ANSWERS,
        VERDICTS,
        Outcome,
        Verdict,
        evaluate,
        reevaluate,
        summary_sentence,
        verdicts,
    )

__all__ = [
    "ANSWERS",
    "VERDICTS",
    "ClaimError",
    "Interval",
    "Outcome",
    "PaperClaims",
    "Part",
    "Settings",
    "Table",
    "Test",
    "Verdict",
    "dump_records",
    "evaluate",
    "evidence_key",
    "gather",
    "load_claims",
    "load_records",
    "mean_interval",
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
