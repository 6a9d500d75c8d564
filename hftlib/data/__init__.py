"""Real prices: sources, validation, splits."""
