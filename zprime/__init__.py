"""zprime makes image datasets fair to protected attributes."""
