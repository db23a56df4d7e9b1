"""`fastun keygen`, `pubkey` and `key` with their help. keys.py does the work, loaded for it."""

from pathlib import Path

import click

from fastun.command.server_state import server_options


@click.command()
def keygen() -> None:
    """Print a new private key.

    \b
    Examples:
      fastun keygen > private.key
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import keys  # noqa: PLC0415 (loads PyNaCl)

    keys.keygen()


@click.command()
def pubkey() -> None:
    """Read a private key from stdin and print its public key.

    \b
    Examples:
      fastun pubkey < private.key
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import keys  # noqa: PLC0415

    keys.pubkey()


@click.command()
@click.option(
    "--forget",
    is_flag=True,
    help="Let the next 'fastun serve' use a new key; every client then needs it.",
)
@server_options
def key(forget: bool, state: Path) -> None:
    """Print the server's public key.

    A server that has peers refuses to start if its private key is missing or has changed, since
    none of them could connect. Use --forget to change the key on purpose.

    \b
    Examples:
      fastun key
      fastun key --forget
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import keys  # noqa: PLC0415

    if forget:
        keys.forget_server_key(state)
    else:
        keys.server_key_of(state)
