"""The service: live state, shared prefixes, deadlines, an API and a page."""
