"""Where the rows of a bulk run come from. All are streamed, and each row can fail by itself.

| source | rows | ids |
|---|---|---|
| a folder, or a glob such as `photos/**/*.jpg` | an image each; of a `.pdf` file a page each | paths from the folder, from the first name with a wildcard on; `a.pdf#page=3` |
| `.txt`, and a file of an unknown name | a text on each line that is not blank | line numbers; of several files `a.txt#line=3` |
| `.jsonl`, `.ndjson` | an object on each line | column `id` |
| `.csv` | RFC 4180, UTF-8, with a header | column `id` |
| `.parquet` | row groups | column `id` |
| `-` | stdin: JSON lines if it begins with `{`, else lines | as those |
| mappings from Python | | `id` |

Files of lines, JSON lines and CSV may be compressed: `.gz`, `.zst`, `.bz2`. A folder that holds no picture and tables
of one kind is one table. Hidden files and folders, whose names begin with a dot, are left out, and so are tables whose
names begin with `_`. Everything lies on this machine, in `s3://` or `gs://`, or in whatever else fsspec knows.

Images in a table are paths, addresses, base64, bytes, or `{"bytes": ..., "path": ...}`. A path counts from the folder
of the table, and does not lead out of it, nor out of a folder of pictures, unless `image_policy.allowed_roots` allows
that. Pipes and devices are never opened.
"""  # noqa: E501

from jinaclip.sources.opening import open_source
from jinaclip.sources.pages import StoredPage, close_documents
from jinaclip.sources.references import Stored, StoredFile
from jinaclip.sources.rows import Columns, Source, SourceRow, Split

__all__ = [
    "Columns",
    "Source",
    "SourceRow",
    "Split",
    "Stored",
    "StoredFile",
    "StoredPage",
    "close_documents",
    "open_source",
]
