"""DNS: the servers that a tunnel sets, and looking up names past the tunnel.

resolver      the program that manages DNS here, and where names are really looked up
name_servers  servers and domains of the device, given to that program
resolv_conf   /etc/resolv.conf, where no program manages it
state         what is set, as a value; `check` asks whether it works, `watch` whether it is replaced
name_lookup   a host name's addresses (resolved); by marked_dns where the resolver leads into the
              tunnel
"""
