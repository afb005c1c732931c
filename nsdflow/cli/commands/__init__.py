"""The commands: a module for each, or for two that are close. ``nsdflow.cli.app`` lists them."""
