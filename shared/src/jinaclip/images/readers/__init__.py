"""Readers of image files, one for each format. They take what `containers` leaves of a file, and give pixels."""
