"""What a running gateway tells of itself when it is asked.

control  the socket: the gateway's side and the asking side
reply    what is told: the keys of `fastun status --json`
report   the same as text of 80 columns: `fastun status`
"""
