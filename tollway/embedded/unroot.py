"""
Lets root run a program that refuses to be root: `python unroot.py [--nobody] FOLDER PROGRAM ARGUMENT…`.

First choice is a user namespace in which root goes by another id: no user is made and no file changes hands.
Where the kernel forbids it (as in a container by default), the program becomes the user `nobody`, is given
FOLDER, and keeps root's right to pass through closed folders. The process id stays the same. Only the
standard library is used, so that it starts in milliseconds under `python -I -S`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

INSIDE_ID = 1000
NOBODY_ID = 65534

CLONE_NEWUSER = 0x10000000
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1


def enter_namespace() -> bool:
    """Go by another id in a user namespace of our own; whether the kernel allowed it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(CLONE_NEWUSER) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INSIDE_ID} 0 1")
    Path("/proc/self/gid_map").write_text(f"{INSIDE_ID} 0 1")
    return True


def become_nobody() -> None:
    """Become the user `nobody`, with the right to pass through closed folders where it can be kept."""
    libc = ctypes.CDLL(None, use_errno=True)
    linux = hasattr(libc, "prctl")
    if linux:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY_ID)
    os.setuid(NOBODY_ID)
    if linux:
        wanted = 1 << CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        effective_permitted_inheritable = (ctypes.c_uint32 * 6)(wanted, wanted, wanted, 0, 0, 0)
        libc.capset(header, effective_permitted_inheritable)
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def give(folder: Path, owner_id: int) -> None:
    """Make a folder and all in it belong to a user, unless it does already."""
    if folder.stat().st_uid == owner_id:
        return
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            os.chown(Path(place, name), owner_id, owner_id, follow_symlinks=False)
    # The folder itself comes last: a walk that was cut short is taken up again.
    os.chown(folder, owner_id, owner_id)


def main(arguments: list[str]) -> None:
    """Become somebody else, then become the program."""
    as_nobody = arguments[0] == "--nobody"
    folder, *command = arguments[as_nobody:]
    # Files of `nobody` have no owner inside the namespace, so they are taken back before.
    if not as_nobody:
        with suppress(PermissionError):
            give(Path(folder), os.getuid())
    if as_nobody or not enter_namespace():
        give(Path(folder), NOBODY_ID)
        become_nobody()
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
