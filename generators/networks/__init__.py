"""Generator networks, their files, and how they are loaded."""
