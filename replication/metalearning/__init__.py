"""Meta-learning trade-off: MAML against domain randomised search.

K. Gao, O. Sener, "Modeling and Optimization Trade-off in Meta-learning" (arXiv 2010.12916, NeurIPS 2020).
"""
