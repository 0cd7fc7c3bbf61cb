"""Encrypts tokens and eGift links, with keys that are derived from the client secret, which is not in the ledger."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airflow_provider_sendoso.ledger.database import Identity


def cipher(identity: Identity, secret: str, purpose: str) -> Fernet:
    """
    Derive a key for one purpose.

    :param identity: the identity of the ledger; salts the key.
    :param secret: the client secret.
    :param purpose: what is encrypted; every purpose has its own key.
    """
    info = f"airflow-provider-sendoso {purpose}".encode()
    derived = HKDF(hashes.SHA256(), 32, salt=identity.hash_key, info=info).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


class LinkCipher:
    """
    Encrypts eGift links, each with a key of its own send: moved to another row, a link cannot be decrypted.

    :param identity: the identity of the ledger.
    :param secret: the client secret; with another one nothing can be read.
    """

    def __init__(self, identity: Identity, secret: str) -> None:
        self._identity = identity
        self._secret = secret

    def encrypt(self, send_key: str, link: str) -> str:
        """
        Encrypt the link of a send.

        :param send_key: the key of the send.
        :param link: the eGift link.
        """
        return self._cipher(send_key).encrypt(link.encode()).decode()

    def decrypt(self, send_key: str, ciphertext: str) -> str | None:
        """
        Read the link of a send.

        :param send_key: the key of the send.
        :param ciphertext: the link as the ledger stores it.
        :return: ``None`` if it was encrypted under another client secret.
        """
        try:
            return self._cipher(send_key).decrypt(ciphertext.encode()).decode()
        except InvalidToken:
            return None

    def _cipher(self, send_key: str) -> Fernet:
        return cipher(self._identity, self._secret, f"egift link {send_key}")
