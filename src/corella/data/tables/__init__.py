"""Tables as people have them: text, Parquet, JSON lines, databases. Knows nothing of what their columns mean."""
