"""What a running gateway says about itself when it is asked.

control        the protocol of the control socket, and its client
server         the gateway's side
reply          the structs of an answer: the keys of `fastun status --json`
reading        makes the answer of a view of the gateway
report         the same as text of 80 columns: `fastun status`; readiness: with --ready
peer_report    its lines about peers; confinement, kill_switch: those about these
capture_service  the socket's side of `fastun capture`
service_manager  what systemd learns
"""
