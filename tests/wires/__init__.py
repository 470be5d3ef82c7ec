"""What is spoken to servers, on every wire, over real sockets."""
