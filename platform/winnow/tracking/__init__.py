"""Glue to MLflow: a journal on shared storage, replayed once."""
