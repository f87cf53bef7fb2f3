"""MongoDB's client-side field level encryption, unmodified: the data keys are wrapped in the HSM.

libmongocrypt makes and reads the HTTP messages; a driver carries them to the host that they name. No database is
needed for that: data keys are kept in a list here. What it carries them over is below, in `kms_request`.
"""

import json
import os
import socket
import ssl
import time
from urllib.parse import parse_qs, urlsplit

from azure.identity import DefaultAzureCredential
from azure.keyvault.keys import KeyClient
from bson import BSON, Binary, decode, encode
from pymongocrypt.mongocrypt import MongoCryptOptions
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback

from checks import RUN, URL, check

NAME = f"mongodb-{RUN}"
LOGIN = "login.invalid:443"


def connect(endpoint: str) -> ssl.SSLSocket:
    """A TLS connection to the endpoint, through HTTPS_PROXY where there is one."""
    proxy = urlsplit(os.environ.get("HTTPS_PROXY", ""))
    host, _, port = endpoint.partition(":")
    way = (proxy.hostname, proxy.port) if proxy.hostname else (host, int(port or 443))
    raw = socket.create_connection(way, timeout=20)
    if proxy.hostname:
        raw.sendall(f"CONNECT {host}:{port or 443} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += raw.recv(1) or b"\r\n\r\n"
        if b" 200" not in answer.split(b"\r\n")[0]:
            raise ConnectionError(answer)
    trust = ssl.create_default_context(cafile=os.environ.get("AKV_CA"))
    return trust.wrap_socket(raw, server_hostname=host)


def signed_in(message: bytes) -> bytes:
    """The answer to libmongocrypt's request for a token: one from IDENTITY_ENDPOINT, for the scope that it asks for."""
    scope = parse_qs(message.split(b"\r\n\r\n")[1].decode())["scope"][0]
    token = DefaultAzureCredential().get_token(scope)
    body = {"access_token": token.token, "token_type": "Bearer", "expires_in": int(token.expires_on - time.time())}
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


class Driver(MongoCryptCallback):
    """What a driver does for libmongocrypt."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.requests: list[bytes] = []

    def kms_request(self, kms_context) -> None:
        if kms_context.endpoint == LOGIN:
            kms_context.feed(signed_in(bytes(kms_context.message)))
            return
        self.requests.append(bytes(kms_context.message).split(b"\r\n")[0])
        with connect(kms_context.endpoint) as stream:
            stream.sendall(kms_context.message)
            while kms_context.bytes_needed > 0:
                data = stream.recv(kms_context.bytes_needed)
                if not data:
                    raise ConnectionError("the answer is not complete")
                kms_context.feed(data)

    def fetch_keys(self, filter):
        yield from self.keys

    def insert_data_key(self, data_key):
        self.keys.append(bytes(data_key))
        return decode(self.keys[-1])["_id"]

    def bson_encode(self, doc):
        return encode(doc)

    def collection_info(self, database, filter):
        raise NotImplementedError

    def mark_command(self, database, cmd):
        raise NotImplementedError

    def close(self) -> None:
        pass


def encrypter(driver: Driver) -> ExplicitEncrypter:
    # It knows no managed identities: whom it names, and where it would sign in, is answered in `kms_request`.
    identity = {"tenantId": "t", "clientId": "c", "clientSecret": "s", "identityPlatformEndpoint": LOGIN}
    return ExplicitEncrypter(driver, MongoCryptOptions({"azure": identity}))


def run() -> None:
    client = KeyClient(URL, DefaultAzureCredential())
    driver = Driver()
    found: dict[str, bytes] = {}

    def wrap() -> None:
        version = client.create_rsa_key(NAME, size=2048).properties.version
        master = {"keyVaultEndpoint": urlsplit(URL).netloc, "keyName": NAME, "keyVersion": version}
        found["id"] = encrypter(driver).create_data_key("azure", master_key=master)
        assert f"/keys/{NAME}/{version}/wrapkey".encode() in driver.requests[-1], driver.requests

    def field() -> None:
        value = encode({"v": "123-45-6789"})
        algorithm = "AEAD_AES_256_CBC_HMAC_SHA_512-Random"
        found["sealed"] = encrypter(driver).encrypt(value, algorithm, key_id=bytes(found["id"]))
        assert b"123-45-6789" not in found["sealed"]

    def unwrap() -> None:
        # A new client, which knows no data key yet, after the master key was rotated.
        client.rotate_key(NAME)
        opened = encrypter(driver).decrypt(found["sealed"])
        assert BSON(opened).decode()["v"] == "123-45-6789"
        assert b"/unwrapkey" in driver.requests[-1], driver.requests

    def purge() -> None:
        client.begin_delete_key(NAME, _polling_interval=0.05).wait()
        client.purge_deleted_key(NAME)

    check("mongodb: a data key is wrapped by an RSA key in the HSM", wrap)
    check("mongodb: a field is encrypted", field)
    check("mongodb: a new client unwraps the data key and reads the field, also after a rotation", unwrap)
    check("mongodb: what was made is purged", purge)
