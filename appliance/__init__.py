"""MemoryStreamer: a hardened message-streaming broker; `assembly` puts its parts together."""
