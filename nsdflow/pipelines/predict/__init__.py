"""Predictions of finished runs for any images."""
