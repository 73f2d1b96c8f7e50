"""From raw tables to ordered, split samples with counting features and histories."""
