"""The cache: vectors that were paid for are not paid for again, by whoever asks."""

from jinaclip.cache.cache import Cache, CacheStats, find_cache, shared_cache
from jinaclip.cache.flights import Leader
from jinaclip.cache.keys import Keys, file_key
from jinaclip.cache.log_store import LogStore
from jinaclip.cache.redis_store import RedisStore
from jinaclip.cache.store import Store, StoreError, StoreSize

__all__ = [
    "Cache",
    "CacheStats",
    "Keys",
    "Leader",
    "LogStore",
    "RedisStore",
    "Store",
    "StoreError",
    "StoreSize",
    "file_key",
    "find_cache",
    "shared_cache",
]
