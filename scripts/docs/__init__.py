"""The documentation as a site: `make docs`. See docs/decisions/0079-a-site-by-sphinx.md."""
