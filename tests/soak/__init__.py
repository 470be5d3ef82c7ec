"""Ten minutes of calls of every kind at once, under faults, against a ledger: `make soak`."""
