"""The command line. What runs a command is loaded when the command is given.

cli           the commands with their help; how every failure reaches the person
peer_cli      the same for `fastun peer`
key_cli       the same for `fastun keygen`, `pubkey` and `key`
options       what several commands have in common
keys          `fastun keygen`, `fastun pubkey` and `fastun key`
peers         what `fastun peer` does
peer_listing  `fastun peer list` and `fastun peer show`
client_file   the file that `fastun peer add` prints
"""

from fastun import imports

# What msgspec would like to have, or has for kinds of values that are not ours: 0.9 MiB.
with (
    imports.without("typing_extensions"),
    imports.standing_in("decimal", "msgspec.inspect", "msgspec._json_schema", "platform"),
):
    import msgspec  # noqa: F401

if imports.has_own_hashes():
    with imports.without("_hashlib"):  # OpenSSL: 0.4 MiB, and 3 more that are mapped
        import hashlib  # noqa: F401
        import hmac  # noqa: F401
