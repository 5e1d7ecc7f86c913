"""What both servers require of a TLS connection."""

from typing import Final

MIN_VERSION: Final = "TLSv1.2"
# For TLS 1.2, in OpenSSL's notation: forward secrecy and an authenticated cipher, so neither CBC with SHA-1 nor CCM8.
# All ciphers of TLS 1.3 have both.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
