"""Open the workbench: ``python app.py``. The same as ``workbench ui``."""

import sys

from workbench.cli import main

if __name__ == "__main__":
    sys.exit(main(["ui", *sys.argv[1:]]))
