"""What a shell completes: commands, options and files by click; names of peers and interfaces here.

While a line is typed nothing may be printed and nothing made: where something cannot be read, such
as the peer directory without root, there is nothing to complete.
"""

import contextlib
import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from fastun.command import running_server
from fastun.config.settings import Options
from fastun.errors import FastunError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_FASTUN_COMPLETE"  # click's, by which the shell's script asks


def peer_names(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Complete the name of a peer in the directory of the server that is meant."""
    from fastun.peers.store import FILE_NAME, PeerStore  # noqa: PLC0415 (SQLite)

    asked = context.params
    with contextlib.suppress(FastunError, OSError):
        run_dir = asked.get("run_dir") or Options().run_dir
        state = running_server.find(asked.get("state"), asked.get("interface"), run_dir)
        if os.access(state / FILE_NAME, os.R_OK):  # else it would be made
            with PeerStore(state) as store:
                names = sorted(peer.name for peer in store.peers())
            return [CompletionItem(name) for name in names if name.startswith(begun)]
    return []


def interface_names(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Complete the interface of a gateway that runs."""
    run_dir: Path = context.params.get("run_dir") or Options().run_dir
    with contextlib.suppress(OSError):
        names = sorted(path.stem for path in run_dir.glob("*.sock"))
        return [CompletionItem(name) for name in names if name.startswith(begun)]
    return []


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell completion script.

    It completes commands, options, files, and the names of peers and interfaces.

    \b
    Examples:
      source <(fastun completion bash)
      fastun completion bash > /etc/bash_completion.d/fastun
      fastun completion zsh > "${fpath[1]}/_fastun"
      fastun completion fish > ~/.config/fish/completions/fastun.fish
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 (click has all of SHELLS)
    click.echo(script(context.find_root().command, {}, "fastun", VARIABLE).source())
