"""Choose the next images to label: the same program as ``detal select``.

python tools/select.py --config configs/sandbox.yaml output=runs/sandbox
"""

import sys
from pathlib import Path

# Running this file puts tools/ first on the path, where it would shadow the standard library's
# `select` for everything imported later; the package itself need not be installed.
_TOOLS = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _TOOLS]
sys.path.insert(0, str(_TOOLS.parent))

from detal.cli import main  # noqa: E402

if __name__ == "__main__":
    main(["select", *sys.argv[1:]])
