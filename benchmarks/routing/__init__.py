"""Named workloads, played through our profiles and the policies of others, and compared seed by seed."""
