"""ADCM: adaptive discretization for consistency models.

J. Bai, Z. Feng, X. Deng, J. Hou, Q. Qiu, H. Ling, "Adaptive Discretization for Consistency Models" (arXiv 2510.17266,
NeurIPS 2025).
"""
