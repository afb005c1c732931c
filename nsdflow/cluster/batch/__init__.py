"""Batch systems: their table, their settings, and pools of workers in batch jobs."""
