"""Answers, headers, configurations and images that were tampered with, by time: `make fuzz`."""
