"""Noise of responses: ceilings, reliability, and synthetic noise that resembles measured noise."""
