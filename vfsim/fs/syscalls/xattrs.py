"""System calls on extended attributes: by path, of a link itself, and by descriptor."""

from __future__ import annotations

from vfsim.fs.lookup import LOOKUP_FOLLOW
from vfsim.fs.syscalls.entry import Buffer, Part, as_bytes, reading, syscall, writing
from vfsim.fs.xattr import getxattr, listxattr, removexattr, setxattr


class XattrCalls(Part):
    """Names and values that hang on an inode."""

    __slots__ = ()

    @syscall
    def setxattr(self, path: str, name: str, value: Buffer, flags: int = 0) -> None:
        """Sleeps.  Set an attribute; with XATTR_CREATE it must be new, with XATTR_REPLACE there.

        Raises:
            OSError: what the walk says, EROFS, then as `vfsim.fs.xattr.setxattr`.
        """
        self._at(path, LOOKUP_FOLLOW, writing, setxattr, name, as_bytes(value), flags)

    @syscall
    def lsetxattr(self, path: str, name: str, value: Buffer, flags: int = 0) -> None:
        """Sleeps.  As `setxattr`, but of a link itself."""
        self._at(path, 0, writing, setxattr, name, as_bytes(value), flags)

    @syscall
    def fsetxattr(self, fd: int, name: str, value: Buffer, flags: int = 0) -> None:
        """Sleeps.  As `setxattr`, of an open file.  Raises EBADF."""
        self._of(fd, writing, setxattr, name, as_bytes(value), flags)

    @syscall
    def getxattr(self, path: str, name: str) -> bytes:
        """Sleeps.  The value of an attribute.

        Raises:
            OSError: what the walk says, then as `vfsim.fs.xattr.getxattr`.
        """
        value: bytes = self._at(path, LOOKUP_FOLLOW, reading, getxattr, name)
        return value

    @syscall
    def lgetxattr(self, path: str, name: str) -> bytes:
        """Sleeps.  As `getxattr`, but of a link itself."""
        value: bytes = self._at(path, 0, reading, getxattr, name)
        return value

    @syscall
    def fgetxattr(self, fd: int, name: str) -> bytes:
        """Sleeps.  As `getxattr`, of an open file.  Raises EBADF."""
        value: bytes = self._of(fd, reading, getxattr, name)
        return value

    @syscall
    def listxattr(self, path: str) -> list[str]:
        """Sleeps.  The names of the attributes that this task may see."""
        return self._at(path, LOOKUP_FOLLOW, reading, listxattr)

    @syscall
    def llistxattr(self, path: str) -> list[str]:
        """Sleeps.  As `listxattr`, but of a link itself."""
        return self._at(path, 0, reading, listxattr)

    @syscall
    def flistxattr(self, fd: int) -> list[str]:
        """Sleeps.  As `listxattr`, of an open file.  Raises EBADF."""
        return self._of(fd, reading, listxattr)

    @syscall
    def removexattr(self, path: str, name: str) -> None:
        """Sleeps.  Remove an attribute.

        Raises:
            OSError: what the walk says, EROFS, then as `vfsim.fs.xattr.removexattr`.
        """
        self._at(path, LOOKUP_FOLLOW, writing, removexattr, name)

    @syscall
    def lremovexattr(self, path: str, name: str) -> None:
        """Sleeps.  As `removexattr`, but of a link itself."""
        self._at(path, 0, writing, removexattr, name)

    @syscall
    def fremovexattr(self, fd: int, name: str) -> None:
        """Sleeps.  As `removexattr`, of an open file.  Raises EBADF."""
        self._of(fd, writing, removexattr, name)
