"""Replications of training-budget papers: their methods as a library, their claims as computed verdicts.

=============================  ==================================================================================
`replication.uba`              UBA, a learning-rate schedule with one shape parameter: `UBALR(optimizer, total_iters)`
`replication.adcm`             adaptive discretisation for consistency models: `segment`, `ConsistencyTrainer`
`replication.disf`             diversified file selection: `select(X, k)`, `DiSFSelector`, `replicate select`
`replication.meek`             scaling laws and when small models catch up: `fit_chinchilla`, `training_gap`
`replication.metalearning`     MAML against domain randomised search: `maml_gradient`, `win_fraction`
`replication.training`         many small models trained at once: `Population`, optimisers, data orders
=============================  ==================================================================================

The methods need torch, numpy and scipy. Each room says in `help(replication.uba)` and so on what it holds. What the
papers claim, and what came out, is in the notebooks; `replicate --help` runs them (`pip install
'replication-notebooks[notebooks]'`).
"""

__version__ = "0.1.0"
