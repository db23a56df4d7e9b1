"""What a gateway may ask of the host process, and what it is answered.

Each class is one message; its tag is its class's name. What is asked is data of the gateway's,
which talks to the network: lengths and ranges are bounded here, and what may be asked at all is for
checks.py to say. Addresses are text; they are parsed where they are used.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from fastun.codec import TAG
from fastun.host.wanted import Applied
from fastun.vocabulary import Transport

TEXTS_MAX: Final = 4096
#: IPv6 with a zone and a prefix length.
Text = Annotated[str, Meta(max_length=64)]
Texts = Annotated[tuple[Text, ...], Meta(max_length=TEXTS_MAX)]
#: However many a directory's peers have: the length of a message bounds them (channel.py).
#: Each takes some 600 bytes in the host process, so all take 300 MiB.
NETWORKS_MAX: Final = 1 << 19
Networks = Annotated[tuple[Text, ...], Meta(max_length=NETWORKS_MAX)]
Domain = Annotated[str, Meta(max_length=256)]
Mtu = Annotated[int, Meta(ge=0, le=65535)]
Port = Annotated[int, Meta(ge=0, le=65535)]
LINE_CHARACTERS_MAX: Final = 512
Line = Annotated[str, Meta(max_length=LINE_CHARACTERS_MAX)]

#: Fields of the settings that the host process goes by, and that change while it runs.
Field = Literal[
    "accept",
    "addresses",
    "allow_lan",
    "dns",
    "dns_search",
    "endpoints",
    "forward",
    "hooks",
    "kill_switch",
    "listen",
    "log",
    "mtu",
    "peers",
    "push",
]
FIELDS: Final[tuple[Field, ...]] = get_args(Field)
Fields = Annotated[tuple[Field, ...], Meta(max_length=len(FIELDS))]


class Message(
    msgspec.Struct, frozen=True, kw_only=True, tag_field=TAG, tag=True, forbid_unknown_fields=True
):
    """One of these below."""


# -- asked ------------------------------------------------------------------------------------


class UndoLeft(Message, frozen=True):
    """Undo what fastuns that were killed have left of this host; `Begin` does that, too."""


class Begin(Message, frozen=True):
    """Make the device, with all that the settings want of this host: Begun, with its descriptor."""


class Push(Message, frozen=True):
    """`Device.apply`: Changed."""

    addresses: Texts = ()
    routes: Texts = ()
    mtu: Mtu = 0
    outer: Networks = ()
    takes_all: bool = False


class KeepOut(Message, frozen=True):
    """`Device.outer_changed`."""

    outer: Networks = ()


class RouteBehind(Message, frozen=True):
    """`Device.route_also`."""

    networks: Networks = ()


class SetDns(Message, frozen=True):
    """`Device.apply_dns`."""

    servers: Texts = ()
    domains: Annotated[tuple[Domain, ...], Meta(max_length=TEXTS_MAX)] = ()


class JudgeDns(Message, frozen=True):
    """`NameServers.judge`."""

    fault: Line = ""


class OuterEndpointText(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where our own packets go."""

    protocol: Transport
    host: Text
    port: Port


Endpoints = Annotated[tuple[OuterEndpointText, ...], Meta(max_length=8192)]


class FollowEndpoints(Message, frozen=True):
    """`KillSwitch.follow`."""

    endpoints: Endpoints = ()


class AllowLookups(Message, frozen=True):
    """`KillSwitch.allow_lookups`."""

    servers: Texts = ()


class Reread(Message, frozen=True):
    """Read the configuration again: SettingsRead. Nothing changes yet."""


class ChangeDevice(Message, frozen=True):
    """`Device.change`, to what was read last in these fields, and else as it was: Changed."""

    fields: Fields = ()
    outer: Networks = ()


class TurnKillSwitch(Message, frozen=True):
    """`KillSwitch.turn`, as of `ChangeDevice`."""

    fields: Fields = ()
    endpoints: Endpoints = ()


class Adopt(Message, frozen=True):
    """Check what is asked from now on by what was read last, in these fields."""

    fields: Fields = ()


HookEvent = Literal["pre_up", "up", "down", "post_down", "peer_up", "peer_down"]
FactName = Literal[
    "FASTUN_PEER",
    "FASTUN_PEER_ALLOWED_IPS",
    "FASTUN_PEER_ENDPOINT",
    "FASTUN_PEER_PUBLIC_KEY",
    "FASTUN_PEER_SOFTWARE",
    "FASTUN_PEER_TRANSPORT",
    "FASTUN_REASON",
]
Fact = Annotated[str, Meta(max_length=8192)]
Job = Annotated[int, Meta(ge=0, le=1 << 62)]


class RunHook(Message, frozen=True):
    """Run a command of the settings, by its event and its place there; `HookDone` follows.

    ``facts`` go into its environment, ``peer`` into the log.
    """

    job: Job
    event: HookEvent
    index: Annotated[int, Meta(ge=0, lt=1 << 16)]
    facts: Annotated[dict[FactName, Fact], Meta(max_length=len(get_args(FactName)))] = {}
    peer: Line = ""


class CancelHook(Message, frozen=True):
    """Kill one that runs."""

    job: Job


class SaveEndpoints(Message, frozen=True):
    """Write where peers were last into the file of the settings, by public key."""

    endpoints: Annotated[dict[Text, Text], Meta(max_length=TEXTS_MAX)]


class Ping(Message, frozen=True):
    """Answer."""


class SetQuiet(Message, frozen=True):
    """Look less often at what nothing reports, or as often as ever (pace.py)."""

    is_quiet: bool


class Close(Message, frozen=True):
    """Let the device go."""


class End(Message, frozen=True):
    """Undo the journal, and end."""


# -- answered ---------------------------------------------------------------------------------


class Done(Message, frozen=True):
    """It is done."""


class Failed(Message, frozen=True):
    """It is not; the text is for a person. `errno` is that of an OSError."""

    kind: Literal["asked to stop", "configuration", "runtime", "system"]
    text: str
    errno: int = 0


class Changed(Message, frozen=True):
    """What became of a change of the device."""

    applied: Applied


class SettingsRead(Message, frozen=True):
    """The configuration as it is now: Settings as pickle has them, by the one that may read it."""

    settings: bytes
    remarks: tuple[str, ...] = ()


class Begun(Message, frozen=True):
    """A device, whose descriptor comes with this. ``offload`` is of native.Offload.

    ``fwmark`` is that of our own packets; the texts are `DnsFiles` as they were before.
    """

    index: int
    offload: int
    fwmark: int
    dns_before: tuple[str, ...]


# -- noticed ----------------------------------------------------------------------------------


class DnsNow(msgspec.Struct, frozen=True):
    """What is set of this host's DNS, as of `DnsState`."""

    servers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    manager: Literal["resolvectl", "resolvconf", "file"] = "file"
    fault: str = ""
    is_checked: bool = False


class KillSwitchNow(msgspec.Struct, frozen=True):
    """The kill switch, as of `KillSwitch`."""

    is_on: bool = False
    has_lan: bool = False
    fault: str = ""
    n_restored: int = 0


class HostNow(Message, frozen=True):
    """How the device and this host are: sent when it has changed.

    ``n_changes`` counts changes of what is wanted. ``is_here``: the device is in the network
    namespace that it was made in. ``others_mtu`` is what another program has made of its MTU, 0
    where it is as we have set it. ``networks`` are private ones that this host forwards to.
    """

    index: int
    repairs: dict[str, int]
    others_mtu: int = 0
    n_changes: int = 0
    is_here: bool = True
    is_up: bool = True
    fault: str = ""
    obstacles: tuple[str, ...] = ()
    takes_all: bool = False
    has_routes: bool = False
    pushed_addresses: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    dns: DnsNow = DnsNow()
    kill_switch: KillSwitchNow = KillSwitchNow()


class HookDone(Message, frozen=True):
    """A hook has ended; ``error`` says how it has failed, empty if it has not."""

    job: int
    error: str


class Lost(Message, frozen=True):
    """The device is gone, or cannot be managed any more: the gateway is to end with this line."""

    text: str


def by_tag(*kinds: type[Message]) -> dict[str, type[msgspec.Struct]]:
    """Return these by their tags."""
    return {kind.__name__: kind for kind in kinds}


REQUESTS: Final = (
    UndoLeft,
    Begin,
    Push,
    KeepOut,
    RouteBehind,
    SetDns,
    JudgeDns,
    FollowEndpoints,
    AllowLookups,
    Reread,
    ChangeDevice,
    TurnKillSwitch,
    Adopt,
    RunHook,
    CancelHook,
    SaveEndpoints,
    Ping,
    SetQuiet,
    Close,
    End,
)
ANSWERS: Final = (Done, Failed, Changed, SettingsRead, Begun)
NOTICES: Final = (HostNow, HookDone, Lost)
