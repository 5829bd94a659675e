"""Consensus as a pure core: messages, ticks and proposals in, one Ready out."""
