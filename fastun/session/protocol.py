"""The whitepaper's constants, and the few that are ours.

Integers on the wire are little-endian, but for those inside a TAI64N timestamp.
"""

from typing import Final

# Section 5.4: what every chaining key, hash and MAC key begins with.
CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# Section 5.4: sizes in bytes.
KEY_BYTES: Final = 32  # X25519 keys, AEAD keys, pre-shared keys
TAG_BYTES: Final = 16  # what an AEAD adds to its plaintext
MAC_BYTES: Final = 16
COOKIE_BYTES: Final = 16
TIMESTAMP_BYTES: Final = 12

NO_PRESHARED_KEY: Final = bytes(KEY_BYTES)  # section 5.4.3: no pre-shared key is one of zeros

# Section 6.1: times in seconds, limits in messages under one key.
REKEY_AFTER_TIME_S: Final = 120.0
REJECT_AFTER_TIME_S: Final = 180.0
REKEY_ATTEMPT_TIME_S: Final = 90.0
REKEY_TIMEOUT_S: Final = 5.0
KEEPALIVE_TIMEOUT_S: Final = 10.0
REKEY_AFTER_MESSAGES: Final = 2**60
REJECT_AFTER_MESSAGES: Final = 2**64 - 2**13 - 1
# Ours, of AES-256-GCM alone, in blocks of 16 bytes: three quarters of what the data path seals
# under one key (csrc/session/session.h). At 40 Gbit/s the rest is some 13 s, for two attempts and
# more.
REKEY_AFTER_BLOCKS: Final = 3 * 2**32
# Ours: how late a live peer's keepalive may be, by its clock's coarseness and a slow path. The
# whitepaper waits for REKEY_TIMEOUT_S; a handshake too many costs less than an outage of 15 s.
ANSWER_TIME_S: Final = 2.0
COOKIE_LIFETIME_S: Final = 120.0  # section 5.4.7: how long a cookie is good for

# Not in the whitepaper, but in what its implementations do (Linux drivers/net/wireguard).
REKEY_JITTER_S: Final = 1 / 3  # so that two peers do not retry in step for ever
INITIATION_INTERVAL_S: Final = 0.020  # of one peer; more often than 50 a second is an attack
