"""Logins that are no HTTP, as bytes: PostgreSQL (SCRAM, MD5, clear text), IMAP and SMTP. Pure.

The guard logs in for a program that holds a placeholder: it reads the program's side here, and writes the server's. Threats: a
password in the clear that a program was talked into using, a message without end, a user name that ends the line it stands in.
"""
