"""`python -m vq_sources.cli`: the same as `vq-circuit`."""

from vq_sources.cli import main

if __name__ == "__main__":
    main()
