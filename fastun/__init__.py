"""fastun: a TUN/TAP tunnel for Linux with a C data path."""

__version__ = "0.1.0"
