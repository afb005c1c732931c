"""Monitoring: events of running tasks, the live state folded from them, the dashboard page and its links."""
