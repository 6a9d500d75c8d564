"""Causal features of bars, and what they are worth."""
