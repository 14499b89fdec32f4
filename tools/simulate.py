"""Compare strategies on a labelled dataset: the same program as ``detal simulate``.

python tools/simulate.py --config configs/bench/sandbox_quick.yaml output=runs/quick
"""

import sys
from pathlib import Path

# Running this file puts tools/ first on the path, where select.py would shadow the standard
# library's `select` for everything imported later; the package itself need not be installed.
_TOOLS = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _TOOLS]
sys.path.insert(0, str(_TOOLS.parent))

from detal.cli import main  # noqa: E402

if __name__ == "__main__":
    main(["simulate", *sys.argv[1:]])
