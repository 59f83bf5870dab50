"""Retrieval measures, significance, tables and plots."""
