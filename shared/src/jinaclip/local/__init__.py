"""The models on this machine: towers in torch, loaded from safetensors, without code from a model hub."""

from jinaclip.local.checkpoint import Towers, load_towers, resolve_device
from jinaclip.local.preprocess import preprocess

__all__ = ["Towers", "load_towers", "preprocess", "resolve_device"]
