"""The runner: parameters checked, notebooks executed in processes of their own, results kept by what they depend on.

====================  =================================================================================
`profiles`            the project's notebooks, their parameters and profiles; a misspelt name is refused
`store`               run ids (a hash of everything a result depends on) and the folders of finished runs
`notebook`            one papermill execution in its own process
`engines`, `cluster`  where runs execute: in processes of this machine, or on a dask cluster
`batch`               many runs from a grid file; remembered, so that they can be resumed
`publish`             executed notebooks, reference results and the README's findings put in their places
`agreement`           whether local runs say what is published, and why perhaps not
`report`, `page`      what came out, on one page
`diff`                what changed between two runs, batches or commits
`verify`              whether committed results, pages and README fit each other and today's claims
`collect`             which runs nobody can use any more, and their removal
`new`                 room, claims, notebook, profile and test of a new paper
====================  =================================================================================

The runner knows nothing of any paper: it finds notebooks, claims and sources by name.
"""

import sys

# jsonschema, which nbformat imports, builds a grammar of internationalised addresses if it finds this package: every
# process would wait for two seconds, for what no notebook uses
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
