"""Hooks, as the host process runs them: programs of the operator's, with its rights.

process  a process of its own that starts them, and ends them with the host process
runner   the host process's end of its channel
facts    what they find in their environment
job      one run of a hook
saving   where a wg-quick file's peers were last, for the file
"""
