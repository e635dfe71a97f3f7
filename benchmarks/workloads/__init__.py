"""What is measured: rows of epochs and their targets, accuracies to be reached, and what was published."""
