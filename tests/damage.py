"""Ways to damage files and disks, for tests of what their readers and writers say."""

import contextlib
import random
import resource


def mutated(data: bytes, draw: random.Random) -> bytes:
    """`data` with one kind of damage: bits flipped, a part removed, doubled, overwritten or filled, or the end cut."""
    changed = bytearray(data)
    start = draw.randrange(max(len(data), 1))
    stop = min(start + draw.choice((1, 4, 64, 1024)), len(data))
    match draw.randrange(6):
        case 0:
            for _ in range(draw.choice((1, 3, 20))):
                changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        case 1:
            del changed[start:stop]
        case 2:
            changed[start:start] = changed[start:stop]
        case 3:
            changed[start:stop] = draw.randbytes(stop - start)
        case 4:
            changed[start:stop] = bytes([draw.choice((0, 255))]) * (stop - start)
        case 5:
            del changed[start:]
    return bytes(changed)


def mutated_json(value, draw: random.Random):
    """A copy of a JSON value with one part, anywhere in it, removed or replaced by a value of another kind."""
    if isinstance(value, dict | list) and value and draw.random() < 0.85:
        copy = value.copy()
        key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if draw.random() < 0.3:
            del copy[key]
        else:
            copy[key] = mutated_json(value[key], draw)
        return copy
    return draw.choice((None, True, -1, 0, 1e300, "", "<b>text</b>", [], {}, [None], {"a": 1}, [[1]], "9" * 50))


@contextlib.contextmanager
def limited_file_size(size: int):
    """No file may grow beyond `size` bytes: what a full disk does, without a disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
