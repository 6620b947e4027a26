"""timerfd(2) for Python 3.10 to 3.12, with the signatures that the os module has from 3.13 on."""

from __future__ import annotations

import ctypes
import os

__all__ = ["timerfd_create", "timerfd_settime"]


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("initial", _Timespec)]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.timerfd_create.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.timerfd_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Itimerspec), ctypes.c_void_p)


def timerfd_create(clockid: int, /, *, flags: int) -> int:
    """Make a timer descriptor; see ``os.timerfd_create``."""
    fd: int = _libc.timerfd_create(clockid, flags)
    if fd < 0:
        _raise_errno()
    return fd


def timerfd_settime(fd: int, /, *, initial: float) -> None:
    """Arm *fd* to be readable after *initial* seconds, once; 0 disarms it. See ``os.timerfd_settime``."""
    seconds = int(initial)
    nanoseconds = min(int((initial - seconds) * 1e9), 999_999_999)
    if initial > 0:
        nanoseconds = max(nanoseconds, 0 if seconds else 1)
    setting = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
    if _libc.timerfd_settime(fd, 0, ctypes.byref(setting), None) < 0:
        _raise_errno()


def _raise_errno() -> None:
    error = ctypes.get_errno()
    raise OSError(error, os.strerror(error))
