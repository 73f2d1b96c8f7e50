"""Which samples the language model is asked about: policies, the router, what it reads, budgets."""
