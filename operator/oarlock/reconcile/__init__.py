"""Observe, decide (pure), act: one keeper for each object."""
