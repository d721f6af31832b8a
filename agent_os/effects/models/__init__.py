"""Language models over HTTP: the effector of `model.call`, and the server that speaks their protocols on loopback."""
