"""Answers from passages: the prompt, the generator, and what its reply may cite."""
