"""What tasks report: events, the live state folded from them, and the dashboard page that shows it."""
