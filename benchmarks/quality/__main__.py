"""`python -m benchmarks.quality`: see :mod:`benchmarks.quality.study`, where worker processes find it too."""

from benchmarks.quality.study import main

if __name__ == "__main__":
    main()
