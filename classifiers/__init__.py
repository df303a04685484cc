"""Networks, their training, and what only measures."""
