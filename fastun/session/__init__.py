"""Sessions: WireGuard's handshake, its timers and its keys, in Python; the data path is C's.

    protocol             the whitepaper's constants: labels, sizes, times, limits
    refusal              why a message is refused; nothing refused is ever answered
    primitives           its functions Hash, Mac, Xaead, DH
    messages             the five messages' layouts
    tai64n               the timestamp inside an initiation
    timestamps           those of our own, which only ever grow
    symmetric_state      Noise's chaining key and hash, in C
    ikpsk2               Noise's pattern IKpsk2: two messages over any payload
    noise                the handshake: the pattern inside messages 1 and 2
    initiation_guard     a peer's replay rule
    transport            a session's keys, and data messages of the hello
    cookies              the macs of messages 1 and 2, and what a responder under load asks for
    timers               when one peer's handshakes and keepalives are due (timer_constants)
    keys                 key pairs, their base64 form and files

Pure but for random numbers, the clock and key files: no module here knows a socket. "Whitepaper"
means Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", and "Noise" the Noise Protocol
Framework, revision 34.
"""
