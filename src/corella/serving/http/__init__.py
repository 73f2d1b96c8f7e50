"""What callers see: routes, their types, keys, limits, and the pages."""
