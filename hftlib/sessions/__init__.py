"""Captured play of the crash game: prices, event store, episodes, observations, transitions."""
