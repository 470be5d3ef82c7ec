"""What retrieval does with embeddings: diversity, re-ranking, classification."""
