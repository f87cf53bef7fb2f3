"""Makes a key, signs a file with it, and verifies the signature without the server.

python sign.py KEY FILE, with STRONGROOM_ENDPOINT, _CA, _CERT, _KEY and _VAULT in the environment.
"""

import hashlib
import json
import os
import sys
import uuid

import google_crc32c
import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from strongroom.v1 import common_pb2, crypto_pb2, crypto_pb2_grpc, keys_pb2, keys_pb2_grpc

TIMEOUT_S = 30

# What may pass is repeated. Every call below is safe to repeat: the change carries a request id.
RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "3s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def setting(name):
    """A setting of the environment."""
    return os.environ[f"STRONGROOM_{name}"]


def connect():
    """TLS, with a certificate on both sides."""

    def pem(name):
        with open(setting(name), "rb") as file:
            return file.read()

    credentials = grpc.ssl_channel_credentials(pem("CA"), private_key=pem("KEY"), certificate_chain=pem("CERT"))
    address = setting("ENDPOINT").removeprefix("https://").rstrip("/")
    return grpc.secure_channel(address, credentials, [("grpc.service_config", json.dumps(RETRIES))])


def create_key(channel, key):
    """Makes a P-256 key, or a new version of it."""
    version = keys_pb2.KeyVersion(key_type=common_pb2.KEY_TYPE_EC, curve=common_pb2.CURVE_P256)
    request = keys_pb2.CreateKeyRequest(
        parent=f"vaults/{setting('VAULT')}", key_id=key, version=version, request_id=str(uuid.uuid4())
    )
    return keys_pb2_grpc.KeysStub(channel).CreateKey(request, timeout=TIMEOUT_S)


def sign(channel, name, digest):
    """Signs a digest; the bytes carry their checksum both ways."""
    request = crypto_pb2.SignRequest(
        name=name, algorithm="ES256", digest=digest, input_crc32c=google_crc32c.value(digest)
    )
    answer = crypto_pb2_grpc.CryptoStub(channel).Sign(request, timeout=TIMEOUT_S)
    if google_crc32c.value(answer.signature) != answer.signature_crc32c:
        raise ValueError("the signature was damaged on the way")
    return answer


def is_right(public_key, signature, digest):
    """Verifies r‖s (RFC 7518 section 3.4), which `cryptography` takes as DER."""
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        public_key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def explain(error):
    """What the server said: the reason is stable, the message is for people."""
    status = rpc_status.from_call(error)
    reasons = []
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reasons.append(info.reason)
    return f"{error.code().name} {' '.join(reasons)}: {error.details()}"


def main(key, path):
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    with connect() as channel:
        version = create_key(channel, key).version
        answer = sign(channel, version.name, digest)
        print("signed by", answer.name)
        public_key = load_der_public_key(version.public_key)
        print("the signature is", "right" if is_right(public_key, answer.signature, digest) else "WRONG")
        other = hashlib.sha256(b"another file").digest()
        print("for another file it is", "right" if is_right(public_key, answer.signature, other) else "wrong")
        try:
            sign(channel, f"vaults/{setting('VAULT')}/keys/{key}-that-is-not-there", digest)
        except grpc.RpcError as error:
            print("without the key:", explain(error))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
