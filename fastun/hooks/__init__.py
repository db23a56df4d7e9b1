"""Hooks: programs of the operator's, run when the gateway and its peers come up and go down.

gateway  those of the gateway, in step with its device
peers    those of peers, in order for each
facts    what they find of a peer in their environment

The host process runs them, each by its place in the settings (host/hooks/).
"""
