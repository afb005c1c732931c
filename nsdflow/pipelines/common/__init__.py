"""Inputs that several kinds of pipelines share: trials, images, earlier runs, networks, and scores."""
