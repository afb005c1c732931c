"""The folded cortex of a synthetic subject: spheres, surfaces, and where the grids of its volumes lie."""
