"""Deterministic state machines: the catalogue and consumer groups."""
