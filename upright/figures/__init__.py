"""Pictures; the only place with matplotlib and with Gymnasium's renderer."""
