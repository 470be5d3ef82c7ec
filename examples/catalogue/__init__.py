"""A fashion catalogue drawn by code, described in eight languages, and a small model trained on it."""
