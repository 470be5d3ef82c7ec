"""`python -m jinaclip`."""

import sys

from jinaclip.cli.main import main

if __name__ == "__main__":
    sys.exit(main(program="python -m jinaclip"))
