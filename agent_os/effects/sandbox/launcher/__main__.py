"""How the launcher starts: alone. Its own folder is the only place that `agent_os` can be imported from in this process.

The parent packages are empty stand-ins with no path, so that neither their code nor anything beside this folder runs here.
"""

import os
import sys
import types

_OWN = os.path.dirname(os.path.abspath(__file__))
_parts = ("agent_os", "effects", "sandbox", "launcher")
for _size in range(1, len(_parts) + 1):
    _package = types.ModuleType(".".join(_parts[:_size]))
    _package.__path__ = [_OWN] if _size == len(_parts) else []
    sys.modules[_package.__name__] = _package
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _OWN]

from agent_os.effects.sandbox.launcher.serve import main  # noqa: E402

if __name__ == "__main__":
    main()
