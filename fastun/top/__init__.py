"""`fastun top`: a running gateway at work.

watch  looks at the gateway, and shows frames on a terminal or prints them
rates  what is worked out of two looks: rates, shares of time, the bottleneck
frame  one frame, made to fit the terminal
"""
