"""Millions of items to vectors in Parquet, resumable: `jinaclip embed` from Python. See docs/bulk.md.

from jinaclip.bulk import embed

report = embed("products.csv", "vectors", text="title")
print(report)
"""

from jinaclip.bulk.dry_run import Plan, plan
from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.reading import Batch, read
from jinaclip.bulk.report import Report
from jinaclip.bulk.run import embed

__all__ = ["Batch", "BulkOptions", "Plan", "Report", "embed", "plan", "read"]
