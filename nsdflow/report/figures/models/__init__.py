"""Figures of what models learn: training, weights, pooling fields, tuning, transfer."""
