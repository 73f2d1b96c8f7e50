"""Past one machine: scoring and recommending everybody, and workers that train together."""
