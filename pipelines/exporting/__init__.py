"""A run as one file, on its way to another machine or to a hub."""
