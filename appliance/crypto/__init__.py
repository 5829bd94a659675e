"""The sealed format and the keys under it, without I/O."""
