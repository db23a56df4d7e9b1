"""The command line. What runs a command is loaded when the command is given.

cli           the commands with their help; how every failure reaches the person
options       what several commands have in common
keys          `fastun keygen` and `fastun pubkey`
peers         `fastun peer`
peer_listing  `fastun peer list` and `fastun peer show`
"""
