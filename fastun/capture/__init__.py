"""``fastun capture``: packets of a running gateway as a pcapng file.

    workers --a ring each--> C: capture_read --blocks--> file or pipe

The gateway makes the rings, passes their descriptors on and is not in the way. What this process
does not take in time is lost for it, not for the tunnel, and counted.

command  one capture; target: the file or pipe that it is written to
"""
