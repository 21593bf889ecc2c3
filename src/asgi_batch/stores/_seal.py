"""
Seals what a store keeps, so that whoever reads the store learns nothing and can change nothing.

A value is sealed with AES-256-GCM (NIST SP 800-38D) under a key of its batch, and only for the
place where it belongs: a value of another batch, of another kind or of another operation does not
open there. It keeps no values itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from asgi_batch.errors import ConfigurationError

#: One key or several: the first seals, all of them open.
Keys: TypeAlias = str | bytes | Sequence[str | bytes]

# No value in clear text begins so: it is not JSON, and the one byte that msgpack never uses.
_MAGIC: Final = b"\xc1\x01"
_KEY_ID: Final = 4
_NONCE: Final = 12
_HEAD: Final = len(_MAGIC) + _KEY_ID
_KEY_BYTES: Final = 32


class Tampered(msgspec.DecodeError):
    """
    Raised when a value is not what was sealed here.
    """


class UnknownKey(Exception):
    """
    Raised when a value was sealed with a key that this process does not have.
    """


class Seal(Protocol):
    """
    What values of one batch go through on their way into the store and back.
    """

    @property
    def heads(self) -> Sequence[bytes]:
        """
        How values begin that were sealed with a key that is here.
        """
        ...

    def close(self, place: str, value: bytes) -> bytes:
        """
        *value* as the store keeps it at *place*.
        """
        ...

    def open(self, place: str, value: bytes) -> bytes:
        """
        What was closed.

        Raises:
            Tampered: It was not closed for this place.
            UnknownKey: It was closed with another key.
        """
        ...

    def fingerprints(self, fingerprint: str) -> Sequence[str]:
        """
        What the store may know *fingerprint* by: the first is kept, each of them is as good.
        """
        ...


#: Makes the seal of a batch from its id.
SealOf: TypeAlias = Callable[[str], Seal]


class _Clear:
    """
    Leaves values as they are.
    """

    heads: Sequence[bytes] = ()

    def close(self, place: str, value: bytes) -> bytes:
        return value

    def open(self, place: str, value: bytes) -> bytes:
        if value.startswith(_MAGIC):
            raise UnknownKey("It is sealed, and this process has no key.")
        return value

    def fingerprints(self, fingerprint: str) -> Sequence[str]:
        return [fingerprint]


_CLEAR: Final = _Clear()


class _Sealed:
    """
    Seals with the first of *masters*, of which each has an id and a cipher of the batch.
    """

    def __init__(
        self, masters: Sequence[bytes], ciphers: dict[bytes, Any], *, reads_clear_text: bool
    ) -> None:
        self._masters = masters
        self._ciphers = ciphers
        self._reads_clear_text = reads_clear_text

    @property
    def heads(self) -> Sequence[bytes]:
        return [_MAGIC + key_id for key_id in self._ciphers]

    def close(self, place: str, value: bytes) -> bytes:
        key_id, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(_NONCE)
        head = _MAGIC + key_id
        sealed: bytes = cipher.encrypt(nonce, value, head + place.encode())
        return head + nonce + sealed

    def open(self, place: str, value: bytes) -> bytes:
        if not value.startswith(_MAGIC):
            if self._reads_clear_text:
                return value
            raise Tampered("It is not sealed.")
        head, nonce, sealed = value[:_HEAD], value[_HEAD:][:_NONCE], value[_HEAD + _NONCE :]
        cipher = self._ciphers.get(head[len(_MAGIC) :])
        if cipher is None:
            raise UnknownKey("It is sealed with a key that this process does not have.")
        try:
            opened: bytes = cipher.decrypt(nonce, sealed, head + place.encode())
        except (_invalid_tag(), ValueError):
            raise Tampered("It is not what was sealed here.") from None
        return opened

    def fingerprints(self, fingerprint: str) -> Sequence[str]:
        # It is a digest of credentials and a body: whoever knew most of them could try the rest.
        # No id of a batch has a space in it, so no batch has such a key.
        text = f"fingerprint {fingerprint}".encode()
        known = [hmac.digest(key, text, "sha256").hex() for key in self._masters]
        return [*known, fingerprint] if self._reads_clear_text else known


def clear(batch_id: str) -> Seal:
    """
    For stores that seal nothing.
    """
    return _CLEAR


def sealing(keys: Keys, *, reads_clear_text: bool) -> SealOf:
    """
    For stores that seal with *keys*.

    Args:
        keys: One key or several: the first seals, all of them open.
        reads_clear_text: Whether values that are not sealed are believed.

    Raises:
        ConfigurationError: They are no keys, or what it takes is not installed.
    """
    cipher_of = _cipher()
    masters = {hashlib.sha256(key).digest()[:_KEY_ID]: key for key in _read(keys)}

    def seal_of(batch_id: str) -> Seal:
        # A key for each batch: nonces that are drawn by chance would do for some four thousand
        # million values of one key, and this way no key seals more than some thousands.
        ciphers = {
            key_id: cipher_of(hmac.digest(key, batch_id.encode(), "sha256"))
            for key_id, key in masters.items()
        }
        return _Sealed([*masters.values()], ciphers, reads_clear_text=reads_clear_text)

    return seal_of


def _cipher() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "encryption_key needs cryptography: pip install asgi-batch[crypto]"
        ) from error
    return AESGCM


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415

    return InvalidTag


def _read(keys: Keys) -> list[bytes]:
    listed = list(keys) if isinstance(keys, (list, tuple)) else [keys]
    found = [_key(each) for each in listed]
    if not found:
        raise ConfigurationError("encryption_key=[]: pass a key, or leave it out.")
    return found


def _key(key: object) -> bytes:
    if isinstance(key, str):
        try:
            # secrets.token_urlsafe leaves the padding out.
            padded = key + "=" * (-len(key) % 4)
            key = base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
    # Without the key, which must not get into a log.
    if not isinstance(key, bytes) or len(key) != _KEY_BYTES:
        raise ConfigurationError(
            f"encryption_key: a key is {_KEY_BYTES} random bytes, or these as Base64; make one with"
            ' python -c "import base64, secrets;'
            ' print(base64.b64encode(secrets.token_bytes(32)).decode())".'
        )
    return key
