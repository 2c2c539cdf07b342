"""All runs on one page, and the trace of one of them."""
