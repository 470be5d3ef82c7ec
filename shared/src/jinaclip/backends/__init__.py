"""Where vectors are made: the hosted API or a server of its kind (`api`), the weights on this machine (`local`)."""
