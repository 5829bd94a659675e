"""What was refused, changed and entered, recorded before the reply."""
