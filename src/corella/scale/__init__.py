"""Past one machine: tasks on processes or Ray, output that is made exactly once, scoring and recommending everybody."""
