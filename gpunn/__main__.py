"""`python -m gpunn`: the command line, also from a bare checkout."""

from gpunn.cli import main

if __name__ == "__main__":
    try:
        main()
    finally:
        # After Ctrl-C inside code made from a string, as Numba's compiler has it, Python started with -m would end by
        # the signal instead of the exit code, though the interrupt was caught. Any other string makes it forget that.
        exec("")
