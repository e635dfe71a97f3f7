"""`python -m gpunn`: the command line, also from a bare checkout."""

from gpunn.cli import main

if __name__ == "__main__":
    main()
