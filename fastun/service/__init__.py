"""fastun as a service of systemd: the texts of its units, and putting them into effect.

The units run a gateway by the user ``fastun`` with CAP_NET_ADMIN alone, from /etc/fastun/NAME.toml.
`units` makes them of one text, beside these modules, for whatever installation runs this, and
`installing` puts them into effect:

    fastun install-service office                  into /etc, for this host; starts it
    fastun install-service --package DIR --command /usr/bin/fastun
                                                   below DIR/usr, as a distribution's package has it
"""
