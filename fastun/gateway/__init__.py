"""The gateway: the supervising process, and what it does for all peers together.

run              what serve and connect call: device, gateway, metrics, control socket
gateway          its life: start, run, stop; and the links that it establishes
reports          what the lane's workers report
peer_sync        our keys and the peers, in step with the peer directory
pushed_settings  what a client accepts of what its servers push
reload           applies a changed file: settings_change compares, live_parts applies
"""
