"""Verifies a log from its files, by the specifications alone: c2sp.org/tlog-tiles, tlog-checkpoint and signed-note, and
the tree of RFC 6962. Python's standard library, and OpenSSL for the signature.

    python3 c2sp_reader.py DIR VKEY

Prints how many records there are, or fails with exit code 1 and what is wrong.
"""

import base64
import hashlib
import pathlib
import subprocess
import sys
import tempfile

WIDTH = 256
# SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes (RFC 8410, section 4).
ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")


class Wrong(Exception):
    """What is wrong with the log."""


def leaf(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes):
    """RFC 6962, section 2.1, over hashes of leaves or of subtrees of one size."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root(hashes[:split]), root(hashes[split:]))


def numbered(index):
    """tlog-tiles: three digits at a time, all but the last behind an x."""
    parts = [f"{index % 1000:03}"]
    while index := index // 1000:
        parts.insert(0, f"x{index % 1000:03}")
    return "/".join(parts)


def read(folder, kind, index, width):
    """A tile or bundle: the partial one, or, once that is gone, the full one."""
    path = folder / "tile" / str(kind) / numbered(index)
    partial = path.with_name(f"{path.name}.p") / str(width)
    if width < WIDTH and partial.exists():
        return partial.read_bytes()
    if not path.exists():
        raise Wrong(f"{path} is missing")
    return path.read_bytes()


def tile(folder, level, index, width):
    data = read(folder, level, index, width)
    if len(data) not in (32 * width, 32 * WIDTH):
        raise Wrong(f"tile {level}/{index} has {len(data)} bytes")
    return [data[at : at + 32] for at in range(0, 32 * width, 32)]


def entries(folder, index, width):
    data, found, at = read(folder, "entries", index, width), [], 0
    while len(found) < width:
        size = int.from_bytes(data[at : at + 2], "big")
        if len(data) < at + 2 + size:
            raise Wrong(f"bundle {index} ends within an entry")
        found.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return found


def openssl(key, text, signature, *how):
    with tempfile.TemporaryDirectory() as folder:
        names = [pathlib.Path(folder) / name for name in ("key", "text", "signature")]
        for name, content in zip(names, (key, text, signature)):
            name.write_bytes(content)
        words = [str(word) for word in how]
        for placeholder, name in zip(("KEY", "TEXT", "SIGNATURE"), names):
            words = [str(name) if word == placeholder else word for word in words]
        return subprocess.run(["openssl", *words], capture_output=True, check=False).returncode == 0


def verify(kind, public, text, signature):
    if kind == 1:
        how = "pkeyutl -verify -pubin -keyform DER -inkey KEY -rawin -in TEXT -sigfile SIGNATURE".split()
        return openssl(ED25519_PREFIX + public, text, signature, *how)
    if kind == 2:
        how = "dgst -sha256 -keyform DER -verify KEY -signature SIGNATURE TEXT".split()
        return openssl(public, text, signature, *how)
    raise Wrong(f"keys of type {kind} do not sign logs")


def checkpoint(folder, vkey):
    """signed-note and tlog-checkpoint: origin, size and root, if the key has signed them."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key, validate=True)
    hashed = key[1:] if key[0] == 2 else name.encode() + b"\n" + key
    if hashlib.sha256(hashed).digest()[:4].hex() != key_id:
        raise Wrong("the verifier key has another ID")
    try:
        note = (folder / "checkpoint").read_bytes().decode()
        text, lines = note.rsplit("\n\n", 1)
        text += "\n"
        for line in lines.rstrip("\n").split("\n"):
            dash, signer, signature = line.split(" ")
            signature = base64.b64decode(signature, validate=True)
            if (dash, signer, signature[:4].hex()) == ("\u2014", name, key_id):
                if not verify(key[0], key[1:], text.encode(), signature[4:]):
                    raise Wrong("the checkpoint's signature is wrong")
                origin, size, hashed = text.split("\n")[:3]
                if origin != name:
                    raise Wrong(f"the checkpoint is of {origin}")
                return int(size), base64.b64decode(hashed, validate=True)
    except ValueError as error:
        raise Wrong(f"the checkpoint is malformed: {error}") from error
    raise Wrong("the key has not signed the checkpoint")


def tiles_of(level, size):
    """The numbers and widths of the tiles of a level."""
    hashes = size >> (8 * level)
    return [(at // WIDTH, min(WIDTH, hashes - at)) for at in range(0, hashes, WIDTH)]


def main(folder, vkey):
    size, signed_root = checkpoint(folder, vkey)
    # What a level must be: hashes of entries at first, then the roots of the full tiles below.
    expected = []
    for index, width in tiles_of(0, size):
        expected += [leaf(entry) for entry in entries(folder, index, width)]
    leaves, level = expected, 0
    while expected:
        for index, width in tiles_of(level, size):
            if tile(folder, level, index, width) != expected[index * WIDTH : index * WIDTH + width]:
                raise Wrong(f"tile {level}/{index} is not what is below it")
        full = len(expected) // WIDTH
        expected = [root(expected[at * WIDTH : (at + 1) * WIDTH]) for at in range(full)]
        level += 1
    if root(leaves) != signed_root:
        raise Wrong("the records are not those that the checkpoint was signed for")
    print(f"{size} records of {vkey.split('+')[0]}")


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]), sys.argv[2])
    except Wrong as error:
        sys.exit(str(error))
