"""BM25, vector index, retriever version (encoder and index as one)."""
