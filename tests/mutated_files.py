"""Honest files changed as damage and malice change them, at random."""

import copy
import io
import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator


class _Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/unpickled-by-a-reader",)


def _nested(depth):
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# Values for a field of JSON.
NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63 - 1, 2**63, 10**12, 10**100, 10**4200),
    *(0.5, 1.0, -1.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -float("inf")),
    *("", "x", "9" * 5000, "-3", "os:Foo-v0", "this:CartPole-v1", "../../etc/passwd", "\x1b]0;gone\x07"),
    *("\ud800", "object", "V1000000000", "f4,f4", ">f4", "<U1000000", "float32", "Box", "Dict", "async"),
    *("envpool", "x\ny", [], [0], [-1], [10**12], [10**6, 10**6], [1] * 2000, [[1]], [None], ["a"], {}),
    *({"kind": "Box"}, _nested(300)),
    *({"pi": [10**9], "vf": []}, {"kind": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"}),
    {"kind": "Box", "low": 0, "high": 1, "shape": [10**12], "dtype": "float32"},
    {"kind": "Box", "low": 0, "high": 1, "shape": [2**20], "dtype": "float64"},
    {"kind": "MultiDiscrete", "nvec": [2**62, 2**62, 2**62, 2**62 + 4], "start": [0] * 4, "dtype": "int64"},
    {"kind": "MultiBinary", "n": [10**6, 10**6]},
    {"kind": "Tuple", "spaces": [{"kind": "MultiBinary", "n": 1}] * 20_000},
]
_CELLS = ["", "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "-1", "0", "9" * 5000, "x", '"', "1,2"]
_CELLS += ["\x00", "٣"]
_INTEGERS = [0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


def pick(rng, choices):
    """One of some."""
    return choices[int(rng.integers(len(choices)))]


# --- bytes -----------------------------------------------------------------------------------------------


def cut(content, rng):
    """Less of it."""
    return content[: rng.integers(len(content) + 1)]


def bits(content, rng):
    """Some bits flipped."""
    spoiled = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if spoiled:
            spoiled[rng.integers(len(spoiled))] ^= 1 << int(rng.integers(8))
    return bytes(spoiled)


def spliced(content, rng):
    """A piece of it put, or taken out, somewhere."""
    a, b, c, d = (int(rng.integers(len(content) + 1)) for _ in range(4))
    return content[: min(a, b)] + content[min(c, d) : max(c, d)] + content[max(a, b) :]


def integers(content, rng):
    """Numbers written over it; most often where the directory of a zip file is."""
    spoiled, start = bytearray(content), max(0, content.find(b"PK\x01\x02"))
    for _ in range(rng.integers(1, 4)):
        code = pick(rng, "HIQ")
        place = int(rng.integers(start if rng.random() < 0.8 else 0, max(start + 1, len(content) - 8)))
        struct.pack_into("<" + code, spoiled, min(place, len(spoiled) - 8), pick(rng, _INTEGERS) % 2**16)
    return bytes(spoiled)


def foreign(_, rng):
    """Something else altogether."""
    array = io.BytesIO()
    np.save(array, np.arange(5.0))
    some = [b"", b"\n", b"notes", bytes(1000), rng.bytes(300), pickle.dumps(_Trap()), array.getvalue()]
    some += [b"PK\x05\x06" + bytes(18), b"[" * 100_000, b"\xff\xfe" + bytes(10), b"\x00,\x00\n" * 9]
    return pick(rng, some)


_BYTES: list[Callable[[bytes, Rng], bytes]] = [cut, bits, spliced, foreign]


# --- JSON ------------------------------------------------------------------------------------------------


def _places(value):
    """Every field in it: what it is in, and its key."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


def field(content, rng):
    """Fields of JSON with nasty values, without one, or with another."""
    value = json.loads(content)
    for _ in range(rng.integers(1, 3)):
        inside, key = pick(rng, _places(value))
        what = rng.random()
        if what < 0.8:
            inside[key] = copy.deepcopy(pick(rng, NASTY))
        elif what < 0.9:
            del inside[key]
        elif isinstance(inside, dict):
            name = str(pick(rng, ["gama", "", "seed", "x" * 100_000, "\x1b[2J"]))
            inside[name] = copy.deepcopy(pick(rng, NASTY))
    return json.dumps(value).encode()


def deep(content, rng):
    """JSON within JSON within JSON."""
    depth = int(10 ** rng.uniform(2, 5))
    return pick(rng, [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])


def many(_, rng):
    """JSON that takes much more memory than it has bytes."""
    part = pick(rng, [b"{},", b"[],", b'{"":0},', b'"ab",', b"1.5,"])
    return b"[" + part * int(10 ** rng.uniform(4, 7) // len(part)) + b"0]"


# --- zip files -------------------------------------------------------------------------------------------


def members(content):
    """The members of a zip file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts, compression=zipfile.ZIP_STORED):
    """A zip file of members, in which a name may come twice."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression, compresslevel=1) as archive:
        warnings.simplefilter("ignore")
        for name, content in parts.items() if isinstance(parts, dict) else parts:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def forged(descr, shape, content=b"", version=1):
    """An array that claims what it wants."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + content


def saved(array):
    """An array as NumPy writes it, with a pickle in it where it holds objects."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _claim(rng):
    descrs = ["'<f4'", "'<f8'", "'|O'", "'|V99999999'", "'<U99999999'", "[('a', '<f4')]", "'|u1'", "'<c16'"]
    shapes = ["(1000000000000,)", "(10**12,)", "(-1,)", "()", "(0,)", "(2, 2)", "(99999999999999999999999,)"]
    shapes += ["(True,)", "(" * 3000 + ")" * 3000, "(1000000, 1000000)", "(4294967296, 4294967296)", "None"]
    descr, shape = pick(rng, descrs), pick(rng, shapes)
    return forged(descr, shape, rng.bytes(int(rng.integers(50))), int(rng.integers(1, 4)))


def _array(rng, old):
    """The array changed in what it holds or is."""
    array = np.load(io.BytesIO(old), allow_pickle=False)
    trap = np.empty(1, dtype=object)
    trap[0] = _Trap()
    flat = array.astype(np.float64).ravel()
    if flat.size:
        flat[rng.integers(flat.size)] = pick(rng, [np.nan, np.inf, -np.inf, -1.0, 1e308, 3e38, 5e-324])
    with np.errstate(all="ignore"):
        converted = array.astype(pick(rng, ["<f2", ">f4", "<f8", "<i8", "<c16", "|b1", "<U3"]))
        other = [flat.astype(array.dtype), converted, array[:-1], np.concatenate([array, array]), array[None]]
        other += [np.asfortranarray(np.stack([array, array])), trap, np.zeros(3, dtype=[("a", "<f4")])]
        other += [np.zeros(0, array.dtype)]
    return saved(pick(rng, other))


def _many_members(parts, rng):
    return packed([*parts.items(), *((f"{i}.npy", b"") for i in range(int(rng.integers(60, 5000))))])


def _bomb(parts, rng):
    """A member that inflates to 200 MB."""
    name = pick(rng, list(parts))
    zeros = bytes(200 * 2**20)
    if not _bombs:
        _bombs["theta"] = packed({"x": forged("'<f4'", f"({len(zeros) // 4},)", zeros)}, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(io.BytesIO(_bombs["theta"])) as archive:
        info = archive.infolist()[0]
    begin = 30 + len(info.filename) + len(info.extra)
    squeezed = _bombs["theta"][begin : begin + info.compress_size]
    # The same stream under another name, as directory and local header say it.
    stream = packed({other: content for other, content in parts.items() if other != name} | {name: squeezed})
    spoiled = bytearray(stream)
    local, entry = stream.rfind(b"PK\x03\x04"), stream.rfind(b"PK\x01\x02")
    for place, method, crc in ((local, 8, 14), (entry, 10, 16)):
        struct.pack_into("<H", spoiled, place + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<III", spoiled, place + crc, info.CRC, info.compress_size, info.file_size)
    return bytes(spoiled)


_bombs: dict[str, bytes] = {}


def _zip64(content, rng):
    """Another end of the file, as those beyond 4 GiB have, that lies."""
    end = content[-22:]
    _, _, _, _, count, size, offset, _ = struct.unpack("<4s4H2LH", end)
    lies = [pick(rng, [value, 0, 2**20, 2**40, 2**63]) for value in (count, size, offset)]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, lies[0], lies[0], lies[1], lies[2])
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, pick(rng, [len(content) - 22, 0, 2**62]), 1)
    return content[:-22] + record + locator + end


def agent(content, rng):
    """An agent's file changed, and how."""
    if rng.random() < 0.35:
        change = pick(rng, [*_BYTES, integers])
        return change(content, rng), change.__name__
    parts = members(content)
    names = list(parts)
    one, other = (str(each) for each in rng.choice(names, 2, replace=False))
    text = np.load(io.BytesIO(parts["header.npy"])).tobytes()
    how = pick(rng, [*9 * ["header"], *_WAYS])
    if how == "header":
        change = pick(rng, [field, field, field, field, deep, many, bits, cut])
        changed = np.frombuffer(change(text, rng), np.uint8)
        return packed(parts | {"header.npy": saved(changed)}), f"header {change.__name__}"
    return _repacked(how, content, parts, one, other, rng), how


def _too_many(parts, one, rng):
    name = pick(rng, ["../theta.npy", "/tmp/x.npy", "x.npy", "theta", "a\x1b[2J.npy"])
    return packed(parts | {name: parts[one]})


def _repacked(how, content, parts, one, other, rng):
    """The file changed in one of :data:`_WAYS`."""
    match how:
        case "forged array":
            return packed(parts | {one: _claim(rng)})
        case "another array":
            return packed(parts | {one: _array(rng, parts[one])})
        case "damaged array":
            return packed(parts | {one: pick(rng, _BYTES)(parts[one], rng)})
        case "swapped members":
            return packed(parts | {one: parts[other], other: parts[one]})
        case "a member twice":
            return packed([*parts.items(), (one, parts[other])])
        case "a member too many":
            return _too_many(parts, one, rng)
        case "a member too few":
            return packed({name: parts[name] for name in parts if name != one})
        case "many members":
            return _many_members(parts, rng)
        case "compressed":
            return packed(parts, pick(rng, [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
        case "bomb":
            return _bomb(parts, rng)
        case "zip64":
            return _zip64(content, rng)
        case "something before":
            return rng.bytes(int(rng.integers(1, 99))) + content
    return content + rng.bytes(int(rng.integers(1, 99)))


_WAYS = [
    *("forged array", "another array", "damaged array", "swapped members", "a member twice"),
    *("a member too many", "a member too few", "many members", "compressed", "bomb", "zip64"),
    *("something before", "something behind"),
]


# --- tables, presets and directories -----------------------------------------------------------------------


def cells(content, rng):
    """A table with nasty cells, or other rows and columns."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.integers(1, 4)):
        i = int(rng.integers(len(rows)))
        what = rng.random()
        if what < 0.6:
            rows[i][int(rng.integers(len(rows[i])))] = pick(rng, _CELLS)
        elif what < 0.7:
            rows[i] = rows[i] + ["1"] * int(10 ** rng.uniform(0, 4.5))
        elif what < 0.8:
            rows.insert(int(rng.integers(len(rows))), rows[i])
        elif what < 0.9 and len(rows) > 1:
            rows.pop(i)
        else:
            rows.append([pick(rng, _CELLS) for _ in rows[0]])
    return ("\n".join(",".join(row) for row in rows) + "\n").encode()


def wide(_, rng):
    """A table of many columns with short rows."""
    columns, n = int(10 ** rng.uniform(2, 4.5)), int(10 ** rng.uniform(2, 4.5))
    return ",".join(map(str, range(columns))).encode() + b"\n" + b"1\n" * n


def presets(content, rng):
    """Presets changed, and how."""
    change = pick(rng, [*_BYTES, settings, settings, settings, nested])
    return change(content, rng), change.__name__


def settings(content, rng):
    """Another value, or another setting."""
    lines = content.decode().splitlines()
    values = ["0", "-1", "1e400", "nan", "inf", "true", '"x"', "[]", "[1000000000000]", "{}", "9" * 5000]
    values += ["1979-05-27"]
    at = int(rng.integers(len(lines)))
    name = str(pick(rng, ["gama", "total_timesteps", "n_envs"]))
    if "=" in lines[at]:
        name = lines[at].split("=")[0].strip()
    lines.insert(at + 1, f"{name} = {pick(rng, values)}")
    if "=" in lines[at] and rng.random() < 0.8:
        lines.pop(at)
    return "\n".join(lines).encode()


def nested(content, rng):
    """Tables within tables."""
    depth = int(10 ** rng.uniform(1, 4.5))
    return content + pick(
        rng, [b"\na = " + b"[" * depth, b"\n[" + b"a." * depth + b"a]", b"\na = " + b"{a=" * depth]
    )


def _planted(path, rng):
    """Something else in the place of a file: a link, a pipe, a directory."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    what = str(pick(rng, ["link", "loop", "dangling", "device", "pipe", "directory"]))
    targets = {
        "link": "/etc/hostname",
        "loop": path.name,
        "dangling": path.parent / "gone",
        "device": "/dev/zero",
    }
    if what in targets:
        path.symlink_to(targets[what])
    else:
        path.mkdir() if what == "directory" else os.mkfifo(path)
    return what


def run_directory(path, rng):
    """Change a run directory in its place; returns how."""
    files = ["config.json", "config.json", "progress.csv", "progress.csv", "evaluations.csv", "agent.npz"]
    files += ["checkpoints/000000002.npz", "checkpoints/000000004.npz"]
    name = str(pick(rng, files))
    file, what = path / name, rng.random()
    if what < 0.1:
        return f"{file.suffix} {_planted(file, rng)}"
    if what < 0.15:
        one, other = (path / str(each) for each in rng.choice(sorted(set(files)), 2, replace=False))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        return "swapped files"
    if file.suffix == ".npz":
        content, how = agent(file.read_bytes(), rng)
    else:
        own = [field, field, field, deep, many] if file.suffix == ".json" else [cells, cells, cells, wide]
        change = pick(rng, [*own, *_BYTES])
        content, how = change(file.read_bytes(), rng), change.__name__
    file.write_bytes(content)
    return f"{file.suffix} {how}"
