"""The command line: `jinaclip COMMAND`."""
