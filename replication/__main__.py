"""`python -m replication` is `replicate`."""

from __future__ import annotations

import sys

from replication.checks import extra


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        with extra("disf" if sys.argv[1:2] == ["select"] else "notebooks"):
            from replication import cli
    except ModuleNotFoundError as error:
        sys.exit(f"replicate: {error}")
    except KeyboardInterrupt:  # before any command could say more
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
