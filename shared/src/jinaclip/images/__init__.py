"""Opens images under the image policy, resizes them for the model, and encodes them for sending.

Importing this package loads neither Pillow nor httpx.
"""

from jinaclip.images.documents import Page, Pages
from jinaclip.images.opening import Reserve, check, download, open_image, size
from jinaclip.images.resize import count_fitted, fit
from jinaclip.images.sending import Fit, Tile, Upload, encode_tile, keeps_files, open_tile, preview, upload
from jinaclip.images.snapshots import take
from jinaclip.images.streams import read_stream

__all__ = [
    "Fit",
    "Page",
    "Pages",
    "Reserve",
    "Tile",
    "Upload",
    "check",
    "count_fitted",
    "download",
    "encode_tile",
    "fit",
    "keeps_files",
    "open_image",
    "open_tile",
    "preview",
    "read_stream",
    "size",
    "take",
    "upload",
]
