"""`python -m gateway.sandbox --port N`: the stand-in as a server of its own."""

import sys

from gateway.sandbox import main

sys.exit(main())
