"""The command line. What runs a command is loaded when the command is given.

cli             the commands with their help; how every failure reaches the person (last_line)
*_cli           the same for one command or a group of them; late loads them when asked for
options         what several commands have in common; completion: what a shell completes
streams         stdin, stdout and stderr, however the caller has left them

keys            `fastun keygen`, `pubkey` and `key`
peers           `fastun peer add`, `list`, `show`, `remove`; peer_changes: what changes one
peer_fields     what these take of a peer; peer_listing: how it is shown
peer_transfer   `fastun peer export` and `import`
new_client      the file of a client, made by client_file
running_server  which server a command is about, by the options of server_state
reload, drain, disconnect, fleet   what these commands do
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
