"""A private certificate authority for a cluster, its nodes and its clients."""
