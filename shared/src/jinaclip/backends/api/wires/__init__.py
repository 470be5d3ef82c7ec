"""What services are sent and what they answer, one module each."""
