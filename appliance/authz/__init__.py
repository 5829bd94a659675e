"""The gate before every request, and the policy behind it."""
