"""fastun: a TUN/TAP tunnel for Linux with a C data path.

    command   the command line
    bench     fastun bench; likewise capture, doctor, top
    service   units of systemd
    lab       the laboratory of demo, tests and benchmarks
    status    the control socket, and fastun status
    metrics   what Prometheus reads
    gateway   the supervising process; it holds together:
    hooks       when programs of the operator's run
    link        streams and datagrams to the peers
    lane        the workers of one device queue
    host        the device, routes, DNS
    fleet     peers in PostgreSQL, for several gateways
    config    from files and options to Settings
    peers     who may connect
    session   WireGuard's handshake, timers and keys
    native    the wall to C
    log       lines of events

Each imports only those below it, except that gateway.run starts status and metrics, which read the
gateway: pyproject.toml has the order, and `make lint` checks it.

Single modules, which all may use:

    errors, endpoint, vocabulary, codec, private_file, state_file, input_file, service_user
    ending, pace, threads, descriptors, bounded_server, library_errors: of a gateway's process
    imports, import_paths: what is loaded, and from where
"""

__version__ = "0.1.0"
