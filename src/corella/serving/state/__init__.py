"""What is known now: people, items, counts."""
