"""Stage ``check``: every parameter, before any other stage starts.

DVC looks for the file of the method in use (``dynadfq/methods/${method.name}.py``) when it comes to
the stage ``synthesize``. All stages follow this one, so that a misspelt name, as anything else that
is wrong, is answered here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dynadfq.params import examine
from dynadfq.runtime.program import one_line

CHECKED = Path("artifacts/checked.txt")


def main() -> None:
    """Check ``params.yaml``, and write a file that is always the same.

    So no later stage runs again because of it.
    """
    with one_line("check", "run it again"):
        for line in examine("params.yaml", Path(os.environ.get("DVC_ROOT", "."))):
            print(f"note: {line}", file=sys.stderr)
        CHECKED.parent.mkdir(exist_ok=True)
        CHECKED.write_text("params.yaml is valid\n")


if __name__ == "__main__":
    main()
