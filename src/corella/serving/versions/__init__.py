"""Models of a run that came after one another: what was told, a retraining, a gate, and which one serves."""
