"""`vq-circuit` in a process that kills itself just before or after it puts its n-th file in place."""

import os
import signal
import sys
from typing import Any

from vq_sources.cli import main


def die_at(number: int, after: bool) -> None:
    """Kill the process at its n-th `os.replace`, which is how every file is put in place."""
    replace, count = os.replace, 0

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal count
        count += 1
        if count == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*arguments, **named)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted  # type: ignore[assignment]


if __name__ == "__main__":
    number, moment, *sys.argv[1:] = sys.argv[1:]
    die_at(int(number), moment == "after")
    main()
