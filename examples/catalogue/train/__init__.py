"""How the catalogue's model was made: `python -m examples.catalogue.train`."""
