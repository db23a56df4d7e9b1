"""The gateway: the supervising process, and what it does for all peers together.

run              what serve and connect call: device, gateway, metrics, control socket
gateway          its parts put together: start, run, stop; and the links that it establishes
life             how long it runs; supplies, privileges: what it gets, and what it gives up
link_tasks       what makes its links, by the handshaker of the wire; outer_endpoints: where to

Workers:

    lane_plan        what they are to do
    reports          what they report
    worker_state     idle, busy or blocked; lane_memory: what a view has of a lane
    captures         `fastun capture`
    tap_tasks        what only a TAP device needs

Peers:

    peer_sync        our keys and the peers, in step with the peer directory; peer_watch: then
    peer_terms       which of them may connect now; quotas: what they have used
    fleet_watch      the process that follows a fleet's directory; presence: where its peers are
    late_networks    networks that this host comes to lead to, pushed to clients
    pushed_settings  what a client accepts of what its servers push; push_pace: how often

While it runs:

    reload           applies a changed file: settings_change compares, live_parts applies
    dns_checks       whether the tunnel's DNS servers answer
    quiet            whether it may look less often
    view             the gateway at one moment, for metrics and status; by viewer, device_view and
                     endpoint_view
"""
