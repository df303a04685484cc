"""What trains classifiers and selects their weights."""
