"""Winnow: utility labels from an LLM, retrievers trained on them, served to RAG applications."""

__version__ = "0.6.0"
