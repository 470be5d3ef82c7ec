"""Where a cache lies, and whether it may lie there."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

ENVIRONMENT = "JINACLIP_CACHE"
FILE_NAME = "vectors.sqlite"
MOST_BYTES = 10 * 2**30
SHARE_OF_DISK = 10
"""A cache takes at most this part of what is free."""
NETWORK_TYPES = {
    *("nfs", "cifs", "smb3", "smbfs", "smb2", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "ncpfs"),
    *("coda", "ocfs2", "gfs", "gfs2", "pvfs2", "orangefs", "virtiofs", "vboxsf", "vmhgfs"),
}
"""File systems that other machines may write to; SQLite's log in shared memory breaks there. sqlite.org/wal.html"""
NETWORK_FUSE = {
    *("sshfs", "s3fs", "gcsfuse", "rclone", "goofys", "glusterfs", "ceph", "ceph-fuse", "mount-s3", "blobfuse"),
    *("blobfuse2", "juicefs", "vmhgfs-fuse", "grpcfuse", "curlftpfs"),
}
SMALLEST = 512
"""Bytes of the smallest database; SQLite takes what is smaller for an empty file, and writes over it."""
MOUNTS = Path("/proc/self/mountinfo")


class Unsuitable(Exception):
    """A cache must not lie there; the text says why."""


def default_path() -> Path:
    """The file in the user's folder for caches."""
    from platformdirs import user_cache_path

    return user_cache_path("jinaclip", appauthor=False) / FILE_NAME


def check_place(path: Path) -> None:
    """Looks whether a cache may lie there; makes its folder and an empty file, for this user alone, if need be.

    Raises:
        Unsuitable: others could write there, or it is on a network file system, or another file than it seems.
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    network = network_type(path.parent)
    if network:
        raise Unsuitable(f"it is on a network file system ({network}); name one on a disk with cache=")
    if os.name == "posix":
        _check_folder(path.parent.stat())
    try:  # to open one that is there, and close it, would take away the locks of this process
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
    except FileExistsError:
        _check_file(path)


def _check_folder(found: os.stat_result) -> None:
    """Where each user has a group of their own, folders may be open to it."""
    others = stat.S_IWOTH if _is_own_group(found.st_gid) else stat.S_IWOTH | stat.S_IWGRP
    if found.st_mode & others:
        raise Unsuitable("other users can write to its folder; take that right away (chmod go-w)")
    if found.st_uid not in (os.geteuid(), 0):
        raise Unsuitable("its folder is another user's")


def _is_own_group(number: int) -> bool:
    """Whether a group is this user's alone, as far as its name and its list of members tell."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(number)
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


def _check_file(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_nlink > 1:
        raise Unsuitable("it is a link to a file elsewhere")
    if not stat.S_ISREG(found.st_mode):
        raise Unsuitable("it is no regular file")
    if 0 < found.st_size < SMALLEST:
        raise Unsuitable("it is no database")
    if os.name == "posix" and found.st_uid != os.geteuid():
        raise Unsuitable("it is another user's")
    if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o600)


def network_type(folder: Path, mounts: Path | None = None) -> str | None:
    """The type of the network file system that a folder is on; None if it is on none, or nobody tells (macOS).

    Args:
        folder: which is there.
        mounts: a table of mounts as Linux has it; None for that of this process.
    """
    if sys.platform == "win32":
        return "a share" if str(folder.resolve()).startswith("\\\\") else None
    kind = _mounted_type(folder, mounts or MOUNTS)
    name = kind.removeprefix("fuse.")
    is_network = kind.rstrip("4") in NETWORK_TYPES or (kind != name and name in NETWORK_FUSE)
    return kind if is_network else None


def _mounted_type(folder: Path, table: Path) -> str:
    """The type of the file system that a folder is on, as Linux tells it; "" elsewhere."""
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    types = [line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2:3] == [number]]
    return types[-1] if types else ""


def default_limit(folder: Path) -> int:
    """Most bytes of a cache in this folder: 10 GiB, or a tenth of what is free."""
    return int(min(MOST_BYTES, shutil.disk_usage(folder).free // SHARE_OF_DISK))
