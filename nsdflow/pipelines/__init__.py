"""From a pipeline file to labelled results: one module or folder per kind of pipeline."""
