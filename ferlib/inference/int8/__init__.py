"""Convolutions in 8-bit integers on x86 processors with VNNI; loaded by --int8 only."""
