"""One file per request: what it does once it is authorised."""
