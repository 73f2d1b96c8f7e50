"""From measured costs to machines, GPUs and money: `corella plan`."""
