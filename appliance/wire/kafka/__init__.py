"""The Kafka dialect: message declarations, record batches, and the codec made from them."""
