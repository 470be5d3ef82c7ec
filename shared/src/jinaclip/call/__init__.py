"""One call: what is asked, how its items are prepared, what came of them."""
