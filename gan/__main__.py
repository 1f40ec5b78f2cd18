"""How does `python -m gan` run where nothing is installed?"""

import sys

from gan.cli.main import main

sys.exit(main())
