"""A whole epoch of training in one compiled call."""
