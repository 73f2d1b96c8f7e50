"""From raw tables to ordered, split samples with count features and histories."""
