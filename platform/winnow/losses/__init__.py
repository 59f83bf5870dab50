"""Training objectives on a score matrix."""
