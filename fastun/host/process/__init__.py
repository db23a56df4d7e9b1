"""The host process: the one that changes this host, and what the gateway asks of it.

    gateway --requests, a number each--> host process: device, routes, nft, sysctls, DNS, journal,
            <--answers, with descriptors--              kill switch, what others change back
            <--notices: how the host is now--

forking     starts it: a fork of the command, before there are threads
messages    what may be asked, and the answers; channel carries them
server      its end: each request is checked, and handled in a thread (requests: what is done)
client      the gateway's end: a call that waits, any thread
gateway_*   what the gateway has in place of the device and of the kill switch

It ends when its channel does, whatever has ended the gateway, and then undoes the journal.
"""
