"""From NSD's files to a store: plan, tasks and checks."""
