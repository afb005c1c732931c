"""Turns the conditions of a query into positions, blocks and labelled coordinates. Nothing here reads a response."""
