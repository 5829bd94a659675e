"""Bytes to values and back, without I/O: requests, and the two dialects that carry them."""
