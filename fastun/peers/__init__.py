"""Peers: who may connect, and where they are kept.

peer            a peer, and what several must not have in common
terms           until when, how fast, how much and where to it may connect
prefixes        their allowed IPs, from text
directory       what can be done with the peers of a server
store           the directory in SQLite, STATE/peers.sqlite
store_database  a connection to its file
store_file      its file: made whole, or refused
rows            its rows, as values
server_key      the key by which peers know their server
"""
