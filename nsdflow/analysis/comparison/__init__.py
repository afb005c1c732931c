"""Models beside each other, and the tables of the paper."""
