"""What runs of `pytest --benchmark` found: a page, tables for the terminal, and the figures of the documents."""
