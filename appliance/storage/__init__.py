"""Sealed, append-only logs on a disk that is not trusted."""
