"""Vectors from the weights on this machine, without code from a model hub."""
