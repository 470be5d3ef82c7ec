"""The two towers in PyTorch, and their loading."""
