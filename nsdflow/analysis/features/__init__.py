"""What parts of a model's features contribute: layers, bands, and transfer between areas."""
