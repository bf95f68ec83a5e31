"""Training-budget papers: methods as a library, claims checked.

==========================  =============================================
`replication.uba`           a learning-rate schedule: `UBALR`
`replication.adcm`          consistency models, adaptive grids: `segment`
`replication.disf`          diverse documents out of many: `select`
`replication.meek`          scaling laws and gaps: `fit_chinchilla`
`replication.metalearning`  MAML and its rival: `maml_gradient`
`replication.training`      many small models at once: `Population`
==========================  =============================================

`help(replication.uba)` and so on say what each holds. They need torch,
numpy and scipy; `replication.disf` needs an extra as well:
pip install 'replication-notebooks[disf]'. What the papers claim, and
what came out, is in the notebooks; `replicate --help` runs them (extra
`notebooks`).
"""

__version__ = "0.1.0"
