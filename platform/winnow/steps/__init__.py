"""One file per verb, composing the other rooms."""
