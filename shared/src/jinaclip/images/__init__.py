"""Opens pictures under the image policy, brings them to the size the model sees, and encodes them for sending.

Importing this loads neither Pillow nor httpx.
"""

from jinaclip.images.opening import check, open_image, size
from jinaclip.images.resize import fit
from jinaclip.images.sending import Upload, preview, upload

__all__ = ["Upload", "check", "fit", "open_image", "preview", "size", "upload"]
