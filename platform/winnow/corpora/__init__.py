"""Reading and writing corpora, queries and relevance labels; bad rows go to quarantine."""
