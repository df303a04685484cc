"""Classifiers that zprime did not train: how they are brought in, and how they are loaded again."""
