"""Following a cluster of 1,000 pods: events, the first list, and picks while events come."""
