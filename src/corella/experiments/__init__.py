"""Online experiments: who gets which arm, intervals that may be watched, values of policies not yet served."""
