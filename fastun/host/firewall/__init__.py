"""nftables tables of our own, each device's and each feature's apart.

nft            a table as data: checked, put into the kernel, compared, removed
own_tables     those of a device, as the journal undoes them; `packet_filter` follows them together
forwarding     the host as a router between the device and its other networks: forward_table has the
               rules, forward_ways where it leads, forward_check what is in its way, which
               forward_watch says
kill_switch    what may leave beside the tunnel (kill_switch_rules, local_networks); it outlives us,
               and kill_switch_found finds it then
strong_host    packets for the device's addresses that come by other interfaces
"""
