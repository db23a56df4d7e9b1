"""Hooks: programs of the operator's, run when the gateway and its peers come up and go down.

process  a process of its own that starts them, and ends them with the gateway
runner   the gateway's end of its channel
facts    what they find in their environment
gateway  those of the gateway, in step with its device
peers    those of peers, in order for each
"""
