"""Meek Models: when the gap between a leader and a fixed budget peaks and closes (H. Gundlach et al., arXiv 2507.07931)."""
