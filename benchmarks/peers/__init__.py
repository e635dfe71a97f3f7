"""The same work done by others, one file each."""
