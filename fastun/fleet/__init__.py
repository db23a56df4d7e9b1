"""A fleet: several gateways with one key, and one peer directory, in PostgreSQL.

connection   a connection to the database, and what it says as one line
schema       its tables: made, brought up to date, and their version checked
postgres     the directory in PostgreSQL
opened       which directory a state directory's commands change
reads        what is read of it: what has changed, all, or a part
sound        which peers a gateway can have, of rows that anything may have written
copied       the copy of it that a gateway serves from
looks        looks at the directory, which keep the copy in step with it
presence     where each peer is
follower     keeps the copy in step with the directory
process      the process that does: all of a fleet's that speaks to the database
confinement  what that process keeps of its rights
messages     what it and the gateway say to each other
transfer     peers as lines of JSON: `fastun peer export` and `import`
as_owner     how root's commands connect, by the rights of the user whose copy it is

A gateway serves from a copy in STATE/peers.sqlite, which one process beside it keeps in step. So
what the database does, or does not, never keeps the gateway waiting; and one that starts without
the database knows the peers of the last time. The commands change the database itself.
"""
