"""The invented experiment: images, the order in which they are shown, and the subjects' answers."""
