"""What is kept: one log of records."""
