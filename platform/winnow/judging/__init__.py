"""Judges: candidate pools in, evidence of utility out."""
