"""The launcher's entry, run by its path."""

import os.path
import sys

if __name__ == "__main__":
    # Isolated Python knows its standard library only. The folder that holds `simulators` comes after it, so that
    # nothing there is taken for a part of the library. This file stays small: it alone is compiled at every start.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from simulators.supervisor.launcher import serve

    serve(0)
