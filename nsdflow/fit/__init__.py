"""Optimisation on tensors: splits, GNet training and ridge regression. The package needs only torch and numpy."""
