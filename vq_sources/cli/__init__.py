"""The command `vq-circuit`: from images to a circuit that answers any query, from a terminal."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run `vq-circuit` with the arguments of the process, and exit."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        print(f'error: vq-circuit needs typer and rich ({error}): pip install "pcircuits[vq]"', file=sys.stderr)
        sys.exit(1)
    from vq_sources.cli.app import app
    from vq_sources.cli.encodings import write_plainly

    write_plainly()
    app(prog_name="vq-circuit")
