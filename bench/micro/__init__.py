"""Small measurements behind decisions, and of the data path's parts against a stored baseline."""
