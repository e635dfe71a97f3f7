"""`gpunn tour`: one page from a neuron to MNIST, whose numbers are computed while it is made."""
