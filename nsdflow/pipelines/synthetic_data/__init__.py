"""Synthetic responses from a noise model, as separate stores."""
