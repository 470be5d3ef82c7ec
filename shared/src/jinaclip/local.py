"""The models on this machine: towers in torch, loaded from safetensors, without code from a model hub."""

from jinaclip.backends.local.preprocess import preprocess
from jinaclip.backends.local.towers.loader import Towers, load_towers, resolve_device

__all__ = ["Towers", "load_towers", "preprocess", "resolve_device"]
