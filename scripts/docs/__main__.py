"""`python -m scripts.docs` builds the site."""

import sys

from scripts.docs.build import main

sys.exit(main())
