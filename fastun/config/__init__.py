"""Configuration: from a TOML or wg-quick file and the command line to one validated value.

settings       ServeSettings and ConnectSettings, the values that a gateway runs on, and load()
document       the TOML file: known fields of the right types
sections/      the fields, with their defaults and descriptions
ranges         of numbers
reference      what docs/configuration.md says of the fields; manual: the same for man(1)
wg_quick       wg-quick's files, as the same document; and back; wg_quick_saved: SaveConfig
key_text       what no complaint shows: keys
sources        the command line, and where a value was written, for complaints
vocabulary     the words that a field may have
interface      what the fields of the interface may be
links          which endpoints a side may have, and which by default
routing_tables their names; networks: lists of them; quantity: rates, sizes, moments
host           what a tunnel may change of its host; data_path, lanes: what it carries packets by
full_tunnel    everything through the tunnel; kill_switch: nothing beside it
forward, fleet, hooks, observing   the sections of these names, observing: [metrics] and [log]
served         what commands that add peers need to know of a server
remarks        what is valid and hardly meant
peer           what a peer's fields may be; terms: its terms
identity       our key and our peers together, by role and wire
push           what a server gives its clients, as it travels, and how much of it fits
push_settings  what the configuration says of pushing and of accepting it
"""
