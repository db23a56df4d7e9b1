"""fastun: a TUN/TAP tunnel for Linux with a C data path.

    command   the command line
    config    from files and options to Settings
    peers     who may connect
    gateway   the supervising process; what it holds together:
    host        the device, routes, DNS
    link        streams and datagrams to the peers
    session     WireGuard's handshake, timers and keys
    lane        the workers of one device queue
    worker    a worker's Python side; between it and the gateway:
    channel     messages with descriptors
    _native   the wall to C, and _loop for the workers' loops
    metrics   what Prometheus reads
    status    what fastun status shows
    top       fastun top
    doctor    fastun doctor
    bench     fastun bench
    lab       the laboratory of demo, tests and benchmarks

Used by all: endpoint, errors, log.
"""

__version__ = "0.1.0"
