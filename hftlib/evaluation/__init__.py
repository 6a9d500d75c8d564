"""What a strategy earned on data it never saw, and how sure that is."""
