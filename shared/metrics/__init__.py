"""The challenge's scores, as functions of arrays; each says what it does in the empty case."""
