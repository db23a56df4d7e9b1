"""The sections of the configuration file, each field with its default and its description."""
