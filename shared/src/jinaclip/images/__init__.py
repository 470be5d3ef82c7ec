"""Opens images under the image policy, resizes them for the model, and encodes them for sending.

Importing this package loads neither Pillow nor httpx.
"""

from jinaclip.images.documents import Page, Pages, Pdf
from jinaclip.images.files import outside_of, read_file
from jinaclip.images.guard import translate_errors
from jinaclip.images.opening import Target, check, download, draws_elsewhere, is_page, open_image, size
from jinaclip.images.reserve import Reserve
from jinaclip.images.resize import count_fitted, fit, fit_page, scaled_size
from jinaclip.images.sending import Fit, Tile, Upload, encode_tile, keeps_files, open_tile, preview, upload
from jinaclip.images.snapshots import take
from jinaclip.images.streams import read_stream

__all__ = [
    "Fit",
    "Page",
    "Pages",
    "Pdf",
    "Reserve",
    "Target",
    "Tile",
    "Upload",
    "check",
    "count_fitted",
    "download",
    "draws_elsewhere",
    "encode_tile",
    "fit",
    "fit_page",
    "is_page",
    "keeps_files",
    "open_image",
    "open_tile",
    "outside_of",
    "preview",
    "read_file",
    "read_stream",
    "scaled_size",
    "size",
    "take",
    "translate_errors",
    "upload",
]
