"""How contestants are made, timed and judged, and what a device can do at most."""
