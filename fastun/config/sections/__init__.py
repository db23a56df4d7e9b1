"""The sections of the configuration file, each field with its default and its description.

interface  [interface]; peer: [[peer]]
serving    [listen], [push], [forward], [fleet]; running: [hooks], [metrics], [log], [workers]
base       what they have in common
"""
