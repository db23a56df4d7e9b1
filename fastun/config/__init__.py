"""Configuration: from a TOML or wg-quick file and the command line to one validated value.

settings   Settings, the value that a gateway runs on, and load(), which makes it
document   the TOML file: known fields of the right types, with their defaults
wg_quick   wg-quick's files, as the same document; and back
sources    where a value was written, for complaints
interface  what the fields of the interface may be
links      which endpoints a side may have, and which by default
host       what a tunnel may change of its host
peer       what a peer's fields may be
push       what a server pushes, and how much of it a hello carries
identity   our keys and our peers together, by role and wire
"""
