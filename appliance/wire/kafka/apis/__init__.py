"""One file per Kafka API: its fields by version, and what they mean."""
