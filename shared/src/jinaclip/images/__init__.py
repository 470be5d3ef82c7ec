"""Opens images under the image policy, resizes them for the model, and encodes them for sending.

Importing this package loads neither Pillow nor httpx.
"""

from jinaclip.images.documents import Page, Pages
from jinaclip.images.opening import Reserve, Target, check, download, open_image, size
from jinaclip.images.resize import count_fitted, fit, scaled_size
from jinaclip.images.sending import Fit, Tile, Upload, encode_tile, keeps_files, open_tile, preview, upload
from jinaclip.images.snapshots import take

__all__ = [
    "Fit",
    "Page",
    "Pages",
    "Reserve",
    "Target",
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
    "scaled_size",
    "size",
    "take",
    "upload",
]
