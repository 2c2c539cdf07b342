"""Networks and the TensorDict graph that joins them into a policy."""
