"""Speed of the library, beside peers where there are any."""
