"""The synthetic experiment: images, the order of trials, and the subjects' answers."""
