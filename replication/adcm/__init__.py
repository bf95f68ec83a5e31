"""ADCM: adaptive discretization for consistency models.

Bai, Feng, Deng, Hou, Qiu, Ling, "Adaptive Discretization for Consistency Models" (arXiv 2510.17266,
NeurIPS 2025).
"""
