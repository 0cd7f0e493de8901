"""What libraries raise when they read damaged files: more kinds than their documentation names."""

from __future__ import annotations

import lzma
import struct
import tarfile
import tokenize
import zipfile
import zlib

# of zipfile and tarfile; RuntimeError: encrypted, NotImplementedError: a method or version that they lack
ARCHIVE_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    OverflowError, RuntimeError, NotImplementedError, KeyError, IndexError, MemoryError,
)  # fmt: skip
# of numpy for npy and npz, whose headers it reads as Python
NUMPY_DAMAGE = (*ARCHIVE_DAMAGE, TypeError, AttributeError, SyntaxError, tokenize.TokenError)
