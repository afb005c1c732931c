"""Comparisons of models, and the tables of the paper."""
