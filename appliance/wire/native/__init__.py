"""The native dialect: length-prefixed frames with msgpack headers."""
