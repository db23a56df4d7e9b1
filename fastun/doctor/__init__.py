"""`fastun doctor`: what fastun needs of this host, and how to fix what is missing.

examination  the list of checks, and how their findings are printed
finding      one finding, and what the checks look at
kernel       the kernel, the processor and the libraries
network      ports and settings of the network
files        the state and the run directory
probe        what this kernel does to super-packets, tried
gcrypt       what libgcrypt can do, asked in a process of its own
"""
