"""The language model and the retrieval beside the service: in a process of their own, or on a server."""
