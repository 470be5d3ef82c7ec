"""Answers end to end: images and texts that a search found, handed to a model that looks at them."""
