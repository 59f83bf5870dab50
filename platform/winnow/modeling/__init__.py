"""The dense encoder: texts or tokens in, vectors out."""
