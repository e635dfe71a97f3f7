"""Pictures of histories, evaluations and networks: HTML for notebooks, and Matplotlib's axes."""
