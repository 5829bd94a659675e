"""Who is speaking: principals from client certificates."""
