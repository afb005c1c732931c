"""Optimisation on tensors: splits, GNet training, ridge for receptive fields. Needs torch and numpy alone."""
