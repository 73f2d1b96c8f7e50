"""Work cut into tasks: run in processes or on Ray, with output that is made exactly once."""
