"""A whole epoch of training in one launch."""
