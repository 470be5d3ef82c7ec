"""A server of our own that speaks Jina's wire, misbehaves on demand and keeps books on what it answered."""
