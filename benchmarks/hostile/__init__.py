"""One hostile client or pod beside four well-behaved clients: what the others notice of it."""
