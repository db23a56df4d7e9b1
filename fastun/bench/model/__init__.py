"""`fastun bench --model`: what other machines would carry, by what each stage costs on this one.

wires       the wires, and in how many lanes a peer is on each
load        the program that sends and receives meanwhile
plain_end   fastun without its hello, as plain WireGuard is
processors  on which two it is measured
cpu_clock   the processor time of processes and of the kernel's softirqs
windows     what all stages spent in a window of time
costs       those of a wire, a frame, a packet and a byte: measured
fit         ... and separated
prediction  the model itself, which only computes, of the machines of grid
all_lanes   fastun that uses all its lanes from the start
figures     all of it: the keys of --json
report      the same as tables of 80 columns
"""
