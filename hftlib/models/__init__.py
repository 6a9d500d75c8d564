"""Networks, and what turns their outputs into actions."""
