"""Opens images under the image policy, resizes them for the model, and encodes them for sending.

Importing this package loads neither Pillow nor httpx.
"""

from jinaclip.images.documents import Page, Pages
from jinaclip.images.opening import check, open_image, size
from jinaclip.images.resize import fit
from jinaclip.images.sending import Upload, preview, upload

__all__ = ["Page", "Pages", "Upload", "check", "fit", "open_image", "preview", "size", "upload"]
