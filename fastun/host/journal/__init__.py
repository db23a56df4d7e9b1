"""What was changed of the host and how it is undone, also after a SIGKILL.

journal       the changes of one gateway, newest first when they are undone
journal_file  the file, locked as long as the gateway lives
changes       the kinds of changes, each with how it is undone (`change`: what all have)
sysctls       settings below /proc/sys/net
"""
