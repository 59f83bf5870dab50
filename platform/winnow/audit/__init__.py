"""Whether a judge's labels can be trusted: against people, against another judge, against its own biases."""
