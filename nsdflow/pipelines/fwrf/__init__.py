"""fwRF: settings, features, tasks."""
