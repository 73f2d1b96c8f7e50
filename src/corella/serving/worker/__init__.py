"""The language model as a server of its own, which the servers of a service ask."""
