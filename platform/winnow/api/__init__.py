"""The HTTP application over a retriever; knows no Ray."""
