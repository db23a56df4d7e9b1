"""The host process: the one that changes this host, and what the gateway asks of it.

    gateway --requests, a number each--> host process: device, routes, nft, sysctls, DNS, journal,
            <--answers, with descriptors--              kill switch, what others change back
            <--notices: how the host is now--

forking       starts it: a fork of the command, before there are threads; main: what runs in it
handing_over  the command executes itself anew, and keeps it
messages      what may be asked, and the answers; supply_messages: of sockets, files and processes
channel       carries them
server        its end: each request is checked (checks, supply_checks), and done in a thread
work          does it: the device, the kill switch, the journal; behind: what is behind peers
supply        makes and opens what the gateway may not; fleet_start: the process of a fleet
hooks         which hooks it runs, and when
reading       reads the settings again
client        the gateway's end: a call that waits, any thread; watch: whether it answers
gateway_*     what the gateway has in place of the device, the kill switch, sockets, files, hooks

It ends when its channel does, whatever has ended the gateway, and then undoes the journal.
"""
