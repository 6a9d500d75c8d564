"""Policies: classical and learnt, behind one protocol."""
