"""The search behind the HTTP application: batches, versions and their swaps; knows no Ray and no HTTP."""
