"""fastun: a TUN/TAP tunnel for Linux with a C data path.

    command   the command line
    bench     fastun bench
    doctor    fastun doctor
    top       fastun top
    lab       the laboratory of demo, tests and benchmarks
    status    the control socket, and fastun status
    metrics   what Prometheus reads
    gateway   the supervising process; it holds together:
    link        streams and datagrams to the peers
    lane        the workers of one device queue
    host        the device, routes, DNS
    config    from files and options to Settings
    peers     who may connect
    session   WireGuard's handshake, timers and keys
    native    the wall to C
    log       lines of events

Each imports only those below it, except that gateway.run starts status and metrics, which read the
gateway: pyproject.toml has the order, and `make lint` checks it.

Used by all: errors, endpoint, private_file, codec; ending, threads and descriptors belong to the
"""

__version__ = "0.1.0"
