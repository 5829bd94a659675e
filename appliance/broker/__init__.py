"""Requests become entries of replicated logs, and entries become answers."""
