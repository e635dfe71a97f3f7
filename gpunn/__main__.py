"""Entry point of `python -m gpunn`, also from a checkout."""

from gpunn.cli import main

if __name__ == "__main__":
    try:
        main()
    finally:
        # After Ctrl-C inside code run from a string, as in Numba's compiler, `python -m` would die by the signal
        # instead of returning the exit code, although the interrupt was caught. Running another string resets that.
        exec("")
