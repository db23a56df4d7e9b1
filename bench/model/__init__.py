"""The model of `fastun bench --model` beside what this machine carries; __main__ is the command."""
