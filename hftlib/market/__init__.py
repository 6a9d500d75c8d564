"""Limit order books: matching engine, simulated markets, and what real ones look like."""
