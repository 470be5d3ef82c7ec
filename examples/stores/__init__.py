"""Products in the vector stores that users of these models choose; docs/stores.md compares them."""
