"""`fastun bench`: this machine, or a live tunnel, measured with fastun's own source and sink.

command   what the command does, and its progress
machine   this machine's ceiling, and each wire beside it
live      through a live tunnel to another fastun, and being the other end
traffic   the asking end
sink      the served end
protocol  what the two say to each other, and its bounds
stages    what each stage cost meanwhile
figures   what was measured: the keys of --json
report    the same as tables of 80 columns
model/    what other machines would carry
"""
