"""Evidence and human labels to training examples: thresholds and positive sampling."""
