"""What several stages read, and where it lives."""
