"""Synthetic responses from a noise model, as stores of their own."""
