"""`deponij serve`: search over HTTP, and a page for it.

Batching, caches, limits, guards and counters know no model, item or index; which index is asked and how an answer
looks is the business of `service`; HTTP of `app`; the socket of `server`.
"""
