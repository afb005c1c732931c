"""Contributions of layers and bands to predictions, and transfer between areas."""
