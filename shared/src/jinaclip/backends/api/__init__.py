"""Vectors from the hosted API, or a server that speaks its wire."""
