"""Sockets, TLS and the life of a connection."""
